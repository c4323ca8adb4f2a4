package main

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// root is the folder of the repository, seen from here.
const root = "../.."

// composeFile is as much of docker-compose.yml as is checked.
type composeFile struct {
	Services map[string]composeService
	Volumes  map[string]any
}

type composeService struct {
	Image string
	Build struct {
		Context    string
		Dockerfile string
		Args       map[string]string
	}
	Command     []string
	Restart     string
	GracePeriod string               `yaml:"stop_grace_period"`
	DependsOn   map[string]condition `yaml:"depends_on"`
	Healthcheck struct {
		Test                       []string
		Interval, Timeout, Retries string
	}
	Volumes     []string
	Environment map[string]string
	Ports       []string
}

type condition struct{ Condition string }

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	var c composeFile
	if err := yaml.Unmarshal([]byte(read(t, "docker-compose.yml")), &c); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(c.Services))
	if want := []string{"gateway-1", "gateway-2", "nginx", "redis", "tickets-1", "tickets-2"}; !slices.Equal(names, want) {
		t.Fatalf("services %v, want %v", names, want)
	}
	return c
}

// instances returns the services that are instances of an example, by name.
func (c composeFile) instances() map[string]composeService {
	instances := maps.Clone(c.Services)
	delete(instances, "redis")
	delete(instances, "nginx")
	return instances
}

// flags returns the values of a service's flags.
func (s composeService) flags(t *testing.T) map[string]string {
	t.Helper()
	flags := make(map[string]string)
	for pair := range slices.Chunk(s.Command, 2) {
		name, ok := strings.CutPrefix(pair[0], "-")
		if !ok || len(pair) < 2 {
			t.Fatalf("command %q is not made of flags and values", s.Command)
		}
		flags[name] = pair[1]
	}
	return flags
}

// tagged is the name of an image with at least two numbers of its version.
var tagged = regexp.MustCompile(`^[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)?$`)

func TestComposeRedis(t *testing.T) {
	c := readCompose(t)
	redis := c.Services["redis"]
	if test := strings.Join(redis.Healthcheck.Test, " "); redis.Healthcheck.Test[0] != "CMD-SHELL" || !strings.Contains(test, "redis-cli ping") || !strings.Contains(test, "PONG") {
		t.Errorf("the health check is %q", test)
	}
	if redis.Healthcheck.Interval == "" || redis.Healthcheck.Timeout == "" || redis.Healthcheck.Retries == "" {
		t.Errorf("the health check leaves times to the engine: %+v", redis.Healthcheck)
	}
	command := strings.Join(redis.Command, " ")
	for _, option := range []string{"redis-server ", "--appendonly yes", "--maxmemory-policy noeviction"} {
		if !strings.Contains(command, option) {
			t.Errorf("redis is started with %q, without %q", command, option)
		}
	}
	volume, target, _ := strings.Cut(redis.Volumes[0], ":")
	if _, ok := c.Volumes[volume]; !ok || target != "/data" {
		t.Errorf("volume %q: there is none of that name, or it is not where the image keeps its data", redis.Volumes[0])
	}
	for name, s := range c.Services {
		if s.Image != "" && !tagged.MatchString(s.Image) {
			t.Errorf("%s: image %q is not pinned", name, s.Image)
		}
		if s.Restart != "unless-stopped" {
			t.Errorf("%s: restart is %q", name, s.Restart)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to other machines", name, port)
			}
		}
	}
}

// TestComposeInstances: all instances have the same backend, wait until it is healthy, and are
// started with flags that the examples have.
func TestComposeInstances(t *testing.T) {
	examples := make(map[string]int)
	backend := ""
	usage := make(map[string]string)
	c := readCompose(t)
	for name, s := range c.instances() {
		example := s.Build.Args["EXAMPLE"]
		examples[example]++
		if !strings.HasPrefix(name, example+"-") {
			t.Errorf("%s is an instance of %s", name, example)
		}
		if usage[example] == "" {
			// The usage is printed to the standard output.
			out, err := exec.CommandContext(t.Context(), "go", "run", module+example, "-h").Output()
			if err != nil {
				t.Fatalf("go run %s -h: %v", example, err)
			}
			usage[example] = string(out)
		}
		flags := s.flags(t)
		for flag := range flags {
			if !strings.Contains(usage[example], "\n  -"+flag+" ") {
				t.Errorf("%s: %s has no flag -%s:\n%s", name, example, flag, usage[example])
			}
		}
		if flags["addr"] != "0.0.0.0:8080" {
			t.Errorf("%s listens at %q", name, flags["addr"])
		}
		if backend == "" {
			backend = flags["backend"]
		}
		if flags["backend"] != backend {
			t.Errorf("%s has backend %s, another instance %s", name, flags["backend"], backend)
		}
		if got := s.DependsOn["redis"].Condition; got != "service_healthy" {
			t.Errorf("%s depends on redis with condition %q", name, got)
		}
		// The examples give themselves ten seconds.
		if grace, err := time.ParseDuration(s.GracePeriod); err != nil || grace <= 10*time.Second {
			t.Errorf("%s is killed after %q", name, s.GracePeriod)
		}
		if len(s.Ports) > 0 {
			t.Errorf("%s is open beside nginx: %v", name, s.Ports)
		}
	}
	if examples["tickets"] != 2 || examples["gateway"] != 2 {
		t.Errorf("instances %v, want two of tickets and of gateway", examples)
	}
	u, err := url.Parse(backend)
	if err != nil || u.Scheme != "redis" || u.Port() != "6379" || u.User != nil || c.Services[u.Hostname()].Image == "" {
		t.Errorf("backend %q is not the service redis, without a password", backend)
	}
}

// TestComposeNginx: nginx is given this demo's template where its image looks for templates, a
// value for each variable in it, and all instances.
func TestComposeNginx(t *testing.T) {
	c := readCompose(t)
	nginx := c.Services["nginx"]
	source, target, _ := strings.Cut(nginx.Volumes[0], ":")
	if read(t, source) != nginxTemplate || target != "/etc/nginx/templates/default.conf.template:ro" {
		t.Errorf("volume %q is not the template, or not where the image looks for it", nginx.Volumes[0])
	}
	// Those of nginx are in lower case and without braces.
	var variables []string
	for _, m := range regexp.MustCompile(`\$\{(.*?)\}`).FindAllStringSubmatch(nginxTemplate, -1) {
		variables = append(variables, m[1])
	}
	variables = slices.DeleteFunc(variables, func(v string) bool { return v == "LIKE_THIS" })
	slices.Sort(variables)
	if set := slices.Sorted(maps.Keys(nginx.Environment)); !slices.Equal(set, variables) {
		t.Errorf("nginx has the variables %v, the template %v", set, variables)
	}
	for name, s := range c.instances() {
		_, port, _ := strings.Cut(s.flags(t)["addr"], ":")
		// A name without "resolve" would be looked up once, and a container that comes back may
		// have another address.
		if got, want := nginx.Environment[variable(name)], name+":"+port+" resolve"; got != want {
			t.Errorf("%s is %q, want %q", variable(name), got, want)
		}
		if nginx.DependsOn[name].Condition != "service_started" {
			t.Errorf("nginx does not wait for %s", name)
		}
	}
	if want := []string{"127.0.0.1:8080:" + nginx.Environment["LISTEN"]}; !slices.Equal(nginx.Ports, want) {
		t.Errorf("ports %v, want %v", nginx.Ports, want)
	}
}

// TestFill: only what has a value is replaced, so nginx's own variables stay.
func TestFill(t *testing.T) {
	got := fill("listen ${LISTEN}; set $host $http_host ${LISTEN};", map[string]string{"LISTEN": "1.2.3.4:5"})
	if want := "listen 1.2.3.4:5; set $host $http_host 1.2.3.4:5;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestDockerfile: what it copies and builds exists, and the program runs as an ordinary user.
func TestDockerfile(t *testing.T) {
	c := readCompose(t)
	for name, s := range c.instances() {
		file := s.Build.Dockerfile
		if file == "" {
			file = "Dockerfile"
		}
		if _, err := os.Stat(filepath.Join(root, s.Build.Context, file)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(root, s.Build.Context, "examples", s.Build.Args["EXAMPLE"], "main.go")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	var stages []string
	user, built := "", false
	for line := range strings.Lines(read(t, "Dockerfile")) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "FROM":
			stages = append(stages, words[1])
			user = ""
		case "USER":
			user = words[1]
		case "COPY":
			if strings.HasPrefix(words[1], "--from=") {
				continue
			}
			for _, source := range words[1 : len(words)-1] {
				if _, err := os.Stat(filepath.Join(root, source)); err != nil {
					t.Errorf("%s: %v", strings.TrimSpace(line), err)
				}
			}
		case "RUN":
			if strings.Contains(line, " build ") {
				built = true
				if !strings.Contains(line, "CGO_ENABLED=0 go -C examples build ") || !strings.HasSuffix(strings.TrimSpace(line), " ./${EXAMPLE}") {
					t.Errorf("%s: it does not build an example without cgo", strings.TrimSpace(line))
				}
			}
		}
	}
	if !built {
		t.Error("no line builds the example")
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))[1]
	if want := []string{"golang:" + version, "scratch"}; !slices.Equal(stages, want) {
		t.Errorf("stages from %v, want %v", stages, want)
	}
	if !regexp.MustCompile(`^[1-9]\d*(:[1-9]\d*)?$`).MatchString(user) {
		t.Errorf("the program runs as user %q", user)
	}
}

// TestDockerignore: no file of the programs is kept out of the build.
func TestDockerignore(t *testing.T) {
	// Of each Go package: its files and those that it embeds.
	const format = `{{$dir := .Dir}}{{range .GoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}`
	// The library is in the repository too: its module is replaced by a folder, and has no version.
	const own = `{{with .Module}}{{if or .Main (and .Replace (not .Replace.Version))}}{{with $}}` + format + `{{end}}{{end}}{{end}}`
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", own, module+"tickets", module+"gateway").Output()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Fields(string(out))
	if len(files) < 50 {
		t.Fatalf("go list names %d files only", len(files))
	}
	for pattern := range strings.Lines(read(t, ".dockerignore")) {
		pattern = strings.TrimSpace(pattern)
		if pattern == "" || strings.HasPrefix(pattern, "#") {
			continue
		}
		for _, file := range append(files, top+"/go.mod", top+"/go.sum", top+"/examples/go.mod", top+"/examples/go.sum") {
			name, err := filepath.Rel(top, file)
			if err != nil {
				t.Fatal(err)
			}
			if ignores(t, pattern, filepath.ToSlash(name)) {
				t.Errorf("%q keeps %s out", pattern, name)
			}
		}
	}
}

// ignores reports whether a pattern, which may begin with **/, matches a file or a folder above it.
func ignores(t *testing.T, pattern, name string) bool {
	t.Helper()
	elements := strings.Split(name, "/")
	rest, anywhere := strings.CutPrefix(pattern, "**/")
	for from := range elements {
		for to := from + 1; to <= len(elements); to++ {
			ok, err := filepath.Match(rest, strings.Join(elements[from:to], "/"))
			if err != nil {
				t.Fatal(fmt.Errorf("pattern %q: %w", pattern, err))
			}
			if ok {
				return true
			}
		}
		if !anywhere {
			break
		}
	}
	return false
}
