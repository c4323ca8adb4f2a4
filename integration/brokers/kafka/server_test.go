package kafka

import (
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// cluster is a Kafka of one node in this process, with its data in a folder of the test. Topics
// have three partitions.
type cluster struct {
	*kfake.Cluster
	dir  string
	port int
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	port, err := strconv.Atoi(testenv.Ports(t, 1)[0]) // it comes back to it
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{dir: t.TempDir(), port: port}
	c.start(t)
	t.Cleanup(func() { c.Close() })
	return c
}

func (c *cluster) start(t testing.TB) {
	t.Helper()
	// The port may be taken for a moment by connections that are still being closed.
	testenv.Eventually(t, "the cluster starts", func() (err error) {
		c.Cluster, err = kfake.NewCluster(
			kfake.NumBrokers(1), kfake.Ports(c.port), kfake.DataDir(c.dir), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(3))
		return err
	})
}

func (c *cluster) restart(t testing.TB) {
	t.Helper()
	c.Close()
	c.start(t)
}

func (c *cluster) addrs() []string { return []string{"127.0.0.1:" + strconv.Itoa(c.port)} }

// open opens a backend that the caller closes.
func (c *cluster) open(t testing.TB, query string) hub.Backend {
	t.Helper()
	b, err := backends.Open(t.Context(), "kafka://"+strings.Join(c.addrs(), ",")+"?"+query)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// client returns the cluster's own client, for what Watermill would not write.
func (c *cluster) client(t testing.TB) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func nameOf(t testing.TB, topic string) string {
	t.Helper()
	name, err := TopicName("", topic)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
