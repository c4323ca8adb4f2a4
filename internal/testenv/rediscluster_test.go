package testenv

import (
	"strings"
	"testing"
)

func TestRedisCluster(t *testing.T) {
	Long(t) // the nodes tell each other once a second
	nodes := RedisCluster(t, 3, 1)
	if len(nodes) != 6 {
		t.Fatalf("%d nodes", len(nodes))
	}
	reply, err := RedisDo(nodes[0].Addr, "CLUSTER SLOTS")
	for _, n := range nodes {
		if _, port, _ := strings.Cut(n.Addr, ":"); err != nil || !strings.Contains(reply, port) {
			t.Errorf("%s is not there: %q, %v", n.Addr, reply, err)
		}
	}
}

func TestRedisSentinels(t *testing.T) {
	const password, own = "of-the-nodes", "of-the-sentinels"
	master := Redis(t, "--requirepass", password, "--masterauth", password)
	host, port, _ := strings.Cut(master.Addr, ":")
	Redis(t, "--requirepass", password, "--masterauth", password, "--repl-diskless-sync-delay", "0", "--replicaof", host+" "+port)
	for _, s := range RedisSentinels(t, 3, Sentinels{Master: "m", Addr: master.Addr, Replicas: 1, Password: password, Own: own}) {
		at, err := RedisDo(s.Addr, "AUTH "+own, "SENTINEL GET-MASTER-ADDR-BY-NAME m")
		if want := host + "\n" + port; err != nil || at != want {
			t.Errorf("the master is at %q, %v; want %q", at, err, want)
		}
	}
	if _, err := RedisDo(master.Addr, "GET x"); err == nil {
		t.Error("a command without password is carried out")
	}
}
