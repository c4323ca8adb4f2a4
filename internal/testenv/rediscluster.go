package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// slots is how many a Redis cluster has.
const slots = 16384

// RedisCluster starts a cluster of masters that share the slots evenly, and so many replicas of
// each, with further arguments for redis-server. It returns the masters, followed by the replicas:
// with three masters, the first one's are numbers 3, 6, …. It waits until all know each other and
// the replicas have their data. A node counts as gone when it is silent for two seconds.
func RedisCluster(t testing.TB, masters, replicas int, args ...string) []*Server {
	t.Helper()
	nodes := make([]*Server, masters*(1+replicas))
	args = append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"}, args...)
	for i := range nodes {
		nodes[i] = Redis(t, args...)
	}
	do := func(i int, format string, values ...any) string {
		t.Helper()
		reply, err := RedisDo(nodes[i].Addr, fmt.Sprintf(format, values...))
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	for i := range nodes {
		if i > 0 {
			host, port, _ := strings.Cut(nodes[i].Addr, ":")
			do(0, "CLUSTER MEET %s %s", host, port)
		}
		if i < masters {
			do(i, "CLUSTER ADDSLOTSRANGE %d %d", i*slots/masters, (i+1)*slots/masters-1)
		}
	}
	say := func(i int, command string, lines ...string) {
		t.Helper()
		Eventually(t, "the cluster", func() error {
			reply, err := RedisDo(nodes[i].Addr, command)
			for _, line := range lines {
				if !strings.Contains(reply, line) {
					err = errors.Join(err, fmt.Errorf("%s does not say %s", command, line))
				}
			}
			return err
		})
	}
	known := "cluster_known_nodes:" + strconv.Itoa(len(nodes))
	for i := range nodes {
		say(i, "CLUSTER INFO", known)
	}
	for i := masters; i < len(nodes); i++ {
		// A node that does not know the other one as a master yet refuses.
		id := do(i%masters, "CLUSTER MYID")
		Eventually(t, "the replica", func() error {
			_, err := RedisDo(nodes[i].Addr, "CLUSTER REPLICATE "+id)
			return err
		})
	}
	ports := make([]string, len(nodes))
	for i := range nodes {
		_, ports[i], _ = strings.Cut(nodes[i].Addr, ":")
	}
	for i := range nodes {
		say(i, "CLUSTER INFO", "cluster_state:ok", known)
		say(i, "CLUSTER SLOTS", ports...)
		if i >= masters {
			say(i, "INFO replication", "role:slave", "master_link_status:up")
		}
	}
	return nodes
}

// Sentinels say what Redis Sentinels watch.
type Sentinels struct {
	// Master is the name they give the master, and Addr where it is.
	Master, Addr string
	// Replicas is how many replicas of it they have to know before RedisSentinels returns.
	Replicas int
	// Password is that of the servers, "" for none, and Own that of the sentinels.
	Password, Own string
	// Down is after how long a silent master counts as gone. Default 30s, which a busy machine does
	// not make of it.
	Down time.Duration
}

// RedisSentinels starts so many sentinels, which agree by majority. It returns when they know each
// other and the replicas.
func RedisSentinels(t testing.TB, n int, s Sentinels) []*Server {
	t.Helper()
	path := Need(t, "redis")
	if s.Down == 0 {
		s.Down = 30 * time.Second
	}
	host, port, _ := strings.Cut(s.Addr, ":")
	list := make([]*Server, n)
	for i := range list {
		dir := t.TempDir()
		list[i] = Start(t, Program{
			Name: "sentinel",
			Command: func(ports []string) *exec.Cmd {
				lines := []string{
					"port " + ports[0], "bind " + loopback, "dir " + dir,
					fmt.Sprintf("sentinel monitor %s %s %s %d", s.Master, host, port, n/2+1),
					fmt.Sprintf("sentinel down-after-milliseconds %s %d", s.Master, s.Down.Milliseconds()),
					"sentinel failover-timeout " + s.Master + " 5000",
				}
				if s.Password != "" {
					lines = append(lines, "sentinel auth-pass "+s.Master+" "+s.Password)
				}
				if s.Own != "" {
					lines = append(lines, "requirepass "+s.Own, "sentinel sentinel-pass "+s.Own)
				}
				file := filepath.Join(dir, "sentinel.conf") // sentinels write their state into it
				if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return exec.Command(path, file, "--sentinel") //nolint:gosec // tests choose the program
			},
			Ready: func(pid int, ports []string) error {
				conn, err := net.DialTimeout("tcp", net.JoinHostPort(loopback, ports[0]), probeTimeout)
				if err != nil {
					return err
				}
				defer conn.Close()
				return RedisReady(conn, s.Own, pid)
			},
		})
	}
	for _, one := range list {
		Eventually(t, "the sentinels", func() error {
			var commands []string
			if s.Own != "" {
				commands = append(commands, "AUTH "+s.Own)
			}
			reply, err := RedisDo(one.Addr, append(commands, "INFO sentinel")...)
			want := fmt.Sprintf("slaves=%d,sentinels=%d", s.Replicas, n)
			if err == nil && !strings.Contains(reply, want) {
				err = fmt.Errorf("it says %q, not %s", reply, want)
			}
			return err
		})
	}
	return list
}

// RedisDo sends commands, whose words are separated by spaces, over a connection of its own. It
// returns the reply to the last one, a string, a number or an array's items on a line each, and an
// error as soon as one is refused.
func RedisDo(addr string, commands ...string) (reply string, err error) {
	conn, err := net.DialTimeout("tcp", addr, probeTimeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(probeTimeout)); err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	for _, command := range commands {
		if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
			return "", err
		}
		if reply, err = redisReply(in); err != nil {
			return "", fmt.Errorf("%s: %w", command, err)
		}
	}
	return reply, nil
}

func redisReply(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", io.ErrUnexpectedEOF
	}
	switch kind, rest := line[0], line[1:]; kind {
	case '-':
		return "", errors.New(rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(in, text)
		return string(text[:n]), err
	case '*':
		n, err := strconv.Atoi(rest)
		if err != nil {
			return "", err
		}
		var items []string
		for range n {
			item, err := redisReply(in)
			if err != nil {
				return "", err
			}
			items = append(items, item)
		}
		return strings.Join(items, "\n"), nil
	default:
		return rest, nil
	}
}
