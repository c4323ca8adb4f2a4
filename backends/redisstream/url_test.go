package redisstream

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
)

func TestOpen(t *testing.T) {
	for _, test := range []struct {
		url   string
		check func(b *Backend) bool
	}{
		{"redis://", func(b *Backend) bool {
			return single(b).Addr == "localhost:6379" && single(b).TLSConfig == nil && b.opts.Prefix == "headrace:"
		}},
		{"redis://h:7/3", func(b *Backend) bool {
			return single(b).Addr == "h:7" && single(b).DB == 3 && b.keys.channel("k") == "k:db3"
		}},
		{"redis://u:p%40ss@h?prefix=a:&maxlen=5&retention=2h&keys=3m&maxkeys=7&expiry=6h&finished=2m", func(b *Backend) bool {
			return single(b).Username == "u" && single(b).Password == "p@ss" && b.opts.Prefix == "a:" && b.opts.MaxMessages == 5 &&
				b.opts.MaxAge == 2*time.Hour && b.opts.KeyWindow == 3*time.Minute && b.opts.MaxKeys == 7 &&
				b.opts.MinExpiry == 6*time.Hour && b.opts.FinishedExpiry == 2*time.Minute
		}},
		{"redis://h?forever=true", func(b *Backend) bool { return b.opts.KeepForever && b.opts.expiry() == 0 }},
		{"redis://h?retain=orders%2F:1000::10m&retain=a%26b::4KiB:", func(b *Backend) bool {
			return slices.Equal(b.opts.Retention, []hub.Retention{{Prefix: "orders/", Messages: 1000, Age: 10 * time.Minute}, {Prefix: "a&b", Bytes: 4096}})
		}},
		{"redis://h?read_timeout=1s&client_name=me&protocol=2", func(b *Backend) bool {
			return single(b).ReadTimeout == time.Second && single(b).ClientName == "me" && single(b).Protocol == 2
		}},
		{"rediss://h", func(b *Backend) bool { return single(b).TLSConfig.ServerName == "h" }},
		{"rediss://h?skip_verify=true", func(b *Backend) bool { return single(b).TLSConfig.InsecureSkipVerify }},
		{"valkey://h:7", func(b *Backend) bool { return single(b).Addr == "h:7" }},
		{"valkeys://h:7", func(b *Backend) bool { return single(b).TLSConfig != nil }},
		{"unix://u:p@/run/redis.sock?db=2&prefix=x:", func(b *Backend) bool {
			return single(b).Network == "unix" && single(b).Addr == "/run/redis.sock" && single(b).DB == 2 && single(b).Password == "p" && b.opts.Prefix == "x:"
		}},
		{"redis+cluster://u:p@a:1,b:2,c:3?maxlen=5", func(b *Backend) bool {
			o := b.client.(*redis.ClusterClient).Options()
			return strings.Join(o.Addrs, " ") == "a:1 b:2 c:3" && o.Username == "u" && o.Password == "p" && b.opts.MaxMessages == 5 && b.publisher.announce == "SPUBLISH"
		}},
		{"redis+cluster://a,b:2", func(b *Backend) bool {
			return strings.Join(b.client.(*redis.ClusterClient).Options().Addrs, " ") == "a:6379 b:2"
		}},
		{"rediss+cluster://a:1,b:2?skip_verify=true", func(b *Backend) bool {
			c := b.client.(*redis.ClusterClient).Options().TLSConfig
			return c.ServerName == "" && c.InsecureSkipVerify
		}},
		{"redis+sentinel://u:p@s1:1,s2:2/mymaster/3?prefix=x:&sentinel_password=sp", func(b *Backend) bool {
			o := single(b)
			return o.Username == "u" && o.Password == "p" && o.DB == 3 && b.opts.Prefix == "x:" && b.keys.suffix == ":db3"
		}},
		{"redis://h?follow=xread", func(b *Backend) bool { return b.opts.Follow == FollowXRead && b.xreaders != nil }},
		{"redis://h?follow=pubsub", func(b *Backend) bool { return b.opts.Follow == FollowPubSub && b.xreaders == nil }},
		{"rediss+sentinel://s1/mymaster", func(b *Backend) bool { return single(b).TLSConfig != nil && single(b).DB == 0 }},
	} {
		b, err := backends.Open(t.Context(), test.url)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if !test.check(b.(*Backend)) {
			t.Errorf("%s: not as the URL says: %+v", test.url, b.(*Backend).opts)
		}
		_ = b.Close()
	}
}

func single(b *Backend) *redis.Options { return b.clients[following].single.Options() }

func TestOpenRefuses(t *testing.T) {
	const secret = "canary-4711"
	for _, test := range []struct {
		url  string
		want error
		says string
	}{
		{"redis://:" + secret + "@h?retain=" + secret, backends.ErrParameter, "retain must be"},
		{"redis://:" + secret + "@h?nonsense=" + secret, backends.ErrParameter, "nonsense"},
		{"redis://h?pool_size=3", backends.ErrParameter, "pool_size"},
		{"redis://h?max_retries=3", backends.ErrParameter, "max_retries"},
		{"redis://h?sentinel_password=" + secret, backends.ErrParameter, "sentinel_password"},
		{"redis+cluster://h?read_only=true", backends.ErrParameter, "read_only"},
		{"redis+cluster://h?nonsense=1", backends.ErrParameter, "nonsense"},
		{"redis+sentinel://h/m?nonsense=1", backends.ErrParameter, "nonsense"},
		{"redis+sentinel://h/m?replica_only=true", backends.ErrParameter, "replica_only"},
		{"redis://h?maxlen=0", backends.ErrParameter, "maxlen"},
		{"redis://h?follow=" + secret, backends.ErrParameter, "follow"},
		{"redis://h?retention=5", backends.ErrParameter, "retention"},
		{"redis://h?read_timeout=" + secret, backends.ErrParameter, "read_timeout"},
		{"redis://h?protocol=" + secret, backends.ErrParameter, "protocol"},
		{"redis://h/" + secret, backends.ErrURL, "database"},
		{"redis://a:1,b:2/0", backends.ErrURL, "redis+cluster"},
		{"redis+cluster://h/3", backends.ErrURL, "database 0"},
		{"redis+cluster://h?skip_verify=true", backends.ErrParameter, "TLS"},
		{"redis+sentinel://" + secret + "@h", backends.ErrURL, "master"},
		{"redis+sentinel://s1,,s2/m", backends.ErrURL, "host"},
		{"redis+sentinel://s1/m/x", backends.ErrURL, "database"},
		{"redis://h?prefix=a{b", backends.ErrParameter, "prefix"},
		{"unix://", backends.ErrURL, ""},
	} {
		b, err := backends.Open(t.Context(), test.url)
		if err == nil {
			_ = b.Close()
			t.Errorf("%s: no error", test.url)
			continue
		}
		if test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v that says %q", test.url, err, test.want, test.says)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows the secret: %v", test.url, err)
		}
	}
}

func TestNewRefusesOtherClients(t *testing.T) {
	ring := redis.NewRing(&redis.RingOptions{})
	defer ring.Close()
	if _, err := New(ring, Options{}); !errors.Is(err, ErrClient) {
		t.Errorf("%v, want ErrClient", err)
	}
}

func TestKeys(t *testing.T) {
	k := newKeys("p:", 0)
	seen := make(map[string]string)
	for _, topic := range []string{"a", "a}", "{a", "a%7D", "{}", "a/b c", "%", "%25", "ü"} {
		key := k.stream(topic)
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q have the same key", topic, other)
		}
		seen[key] = topic
		// What decides the slot is between the first { and the next }, and must be all of the
		// topic.
		tag := key[strings.IndexByte(key, '{')+1:]
		tag = tag[:strings.IndexByte(tag, '}')]
		if key != "p:{"+tag+"}" || strings.ContainsAny(tag, "{}") {
			t.Errorf("%q has the key %q", topic, key)
		}
		if !strings.HasPrefix(newerKeysKey(key), key) || !strings.HasPrefix(k.channel(key), key) {
			t.Errorf("the other names of %q have another tag", topic)
		}
	}
}
