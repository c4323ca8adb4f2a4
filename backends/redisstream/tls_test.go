package redisstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// certify makes a certificate for names and addresses, which is its own authority, and returns the
// files that have it and its key.
func certify(t testing.TB, hosts ...string) (certFile, keyFile string, made *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if made, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret), made
}

// startTLSSentinel starts a sentinel, and ends it with the test. The configuration may depend on
// its port.
func startTLSSentinel(t testing.TB, over *tls.Config, lines func(port string) []string) *server {
	t.Helper()
	path, dir := testenv.Need(t, "redis"), t.TempDir()
	program := testenv.Start(t, testenv.Program{
		Name: "sentinel",
		Command: func(ports []string) *exec.Cmd {
			all := append(lines(ports[0]), "bind 127.0.0.1", "dir "+dir, "requirepass "+sentinelPassword,
				"sentinel sentinel-pass "+sentinelPassword)
			file := filepath.Join(dir, "sentinel.conf") // sentinels write their state into it
			if err := os.WriteFile(file, []byte(strings.Join(all, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return exec.Command(path, file, "--sentinel")
		},
		Ready: func(pid int, ports []string) error {
			conn, err := net.Dial("tcp", "127.0.0.1:"+ports[0])
			if err != nil {
				return err
			}
			defer conn.Close()
			return testenv.RedisReady(tls.Client(conn, over), sentinelPassword, pid)
		},
	})
	return newServer(t, program, &redis.Options{Addr: program.Addr, Password: sentinelPassword, TLSConfig: over})
}

func trust(certs ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// startTLS starts a redis-server that speaks TLS at one port and plainly at another, for the test
// itself. It skips the test where redis-server was built without TLS.
func startTLS(t testing.TB, hosts ...string) (s *server, port string, made *x509.Certificate) {
	t.Helper()
	out, _ := exec.Command(testenv.Need(t, "redis"), "--port", "0", "--tls-port", "0").CombinedOutput()
	if strings.Contains(string(out), "tls-port") {
		t.Skip("redis-server was built without TLS")
	}
	cert, key, made := certify(t, hosts...)
	s, ports := startServerPorts(t, 2, func(ports []string) []string {
		return []string{"--tls-port", ports[1], "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert,
			"--tls-auth-clients", "no", "--requirepass", nodePassword}
	})
	return s, ports[1], made
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s, port, made := startTLS(t, "127.0.0.1")
	addr := "127.0.0.1:" + port
	work := func(t *testing.T, b *Backend, topic string) {
		t.Helper()
		a := attend(t, newHub(t, b), topic, hub.Latest())
		first := mustPublish(t, b, topic, "first")
		waitFor(t, "a message", func() bool { return a.all() == "first" })
		mustPublish(t, b, topic, "second")
		waitFor(t, "a message", func() bool { return a.all() == "first second" })
		if p := mustRead(t, b, topic, first); p.Gap || len(p.Messages) != 1 {
			t.Errorf("gap: %v, %d messages", p.Gap, len(p.Messages))
		}
	}
	modes(t, func(t *testing.T, o Options) {
		client := redis.NewClient(&redis.Options{Addr: addr, Password: nodePassword, TLSConfig: &tls.Config{RootCAs: trust(made)}})
		t.Cleanup(func() { _ = client.Close() })
		b, err := New(client, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		topic := "new/" + itoa(int(o.Follow))
		work(t, b, topic)
		// Its connections are lost, and so are those that follow.
		s.ClientKillByFilter(t.Context(), "TYPE", "pubsub")
		s.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
		persist(t, b, topic, "third")
		waitFor(t, "a message after the connections were lost", func() bool {
			p, err := b.Read(t.Context(), topic, "", 10)
			return err == nil && len(p.Messages) == 3
		})
		fourth, _, _ := mustFollow(t, b, topic)
		mustPublish(t, b, topic, "fourth")
		waitFor(t, "a live message", func() bool { return fourth.has("fourth") })
	})
	for _, mode := range []string{"pubsub", "xread"} {
		t.Run("URL with skip_verify, "+mode, func(t *testing.T) {
			work(t, openURL(t, "rediss://default:"+nodePassword+"@"+addr+"?skip_verify=true&follow="+mode), "url/"+mode)
		})
	}
	t.Run("authority is unknown", func(t *testing.T) {
		refusesTLS(t, openURL(t, "rediss://default:"+nodePassword+"@"+addr))
	})
	t.Run("certificate is for another name", func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Addr: addr, Password: nodePassword, TLSConfig: &tls.Config{RootCAs: trust(made), ServerName: "canary.example"}})
		t.Cleanup(func() { _ = client.Close() })
		b, err := New(client, Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		refusesTLS(t, b)
	})
}

// refusesTLS fails the test unless everything fails for want of TLS.
func refusesTLS(t *testing.T, b *Backend) {
	t.Helper()
	_, publishing := b.Publish(t.Context(), "t", hub.Message{Data: []byte("x")})
	if !errors.Is(publishing, hub.ErrRejected) {
		t.Errorf("Publish: %v, want ErrRejected", publishing)
	}
	_, reading := b.Read(t.Context(), "t", "", 10)
	_, _, following := b.Follow(t.Context(), "t", &recorder{})
	for what, err := range map[string]error{"Publish": publishing, "Read": reading, "Follow": following} {
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "TLS") {
			t.Errorf("%s: %v, want ErrUnreachable that says TLS", what, err)
			continue
		}
		noSecrets(t, err, nodePassword, "canary")
	}
}

// TestTLSOfSentinel has one sentinel, whose certificate is for another host than that of the
// master.
func TestTLSOfSentinel(t *testing.T) {
	t.Parallel()
	_, port, made := startTLS(t, "127.0.0.1")
	cert, key, ca := certify(t, "localhost")
	reach := &tls.Config{RootCAs: trust(ca), ServerName: "localhost"}
	sentinel := startTLSSentinel(t, reach, func(at string) []string {
		return []string{"port 0", "tls-port " + at, "tls-cert-file " + cert, "tls-key-file " + key, "tls-ca-cert-file " + cert,
			"tls-auth-clients no", "tls-replication yes", "sentinel monitor " + sentinelMaster + " 127.0.0.1 " + port + " 1"}
	})
	_, at, _ := strings.Cut(sentinel.addr, ":")
	// The URL cannot name an authority: that is the system's business.
	u, err := url.Parse("rediss+sentinel://default:" + nodePassword + "@localhost:" + at + "/" + sentinelMaster + "?sentinel_password=" + sentinelPassword)
	if err != nil {
		t.Fatal(err)
	}
	client, err := openClient(u, backends.NewQuery(u.Query()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	client.(*redis.Client).Options().TLSConfig.RootCAs = trust(made, ca)
	b, err := New(client, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	rec, _, _ := mustFollow(t, b, "t")
	mustPublish(t, b, "t", "x")
	waitFor(t, "a message", func() bool { return rec.has("x") })
}
