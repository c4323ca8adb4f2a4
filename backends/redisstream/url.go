package redisstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/redisstream/internal/dial"
	"github.com/headrace/headrace/hub"
)

func init() {
	for _, scheme := range []string{
		"redis", "rediss", "unix", "valkey", "valkeys",
		"redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
	} {
		backends.Register(scheme, Open)
	}
}

// Open is the backends.Opener of this package's schemes:
//
//	redis://user:password@host:6379/0                          one server
//	unix://user:password@/path/to/socket?db=0                  one server on this machine
//	redis+sentinel://user:password@s1:26379,s2:26379/master/0  the master they name
//	redis+cluster://user:password@h1:6379,h2:6379              a cluster
//
// With TLS they are rediss, rediss+sentinel and rediss+cluster; valkey and valkeys are the same
// as redis and rediss.
//
// User and password are always those of the servers that keep the data. Those of the sentinels
// are the parameters sentinel_username and sentinel_password. The other parameters are those of
// Options:
//
//	prefix=app:        Prefix
//	maxlen=5000        MaxMessages
//	retention=48h      MaxAge
//	forever=true       KeepForever
//	keys=10m           KeyWindow
//	replicas=1         Replicas
//	replicas_timeout=2s
//	                   ReplicasTimeout
//	retain=orders/:1000:64MiB:10m
//	                   Retention, and may come more than once: the prefix and its messages, bytes
//	                   and age, see backends.ParseRetention
//	follow=xread       Follow: pubsub or xread
//
// and those that go-redis knows in its own URLs, such as dial_timeout, read_timeout, client_name,
// protocol and skip_verify, unless the backend sets what they are for by itself.
//
// TLS trusts the authorities that the system does. For others, and for certificates of clients,
// use New.
//
// Open does not wait for the server. The backend owns its connections, and Close closes them.
func Open(ctx context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	o := Options{
		Prefix:      q.String("prefix", ""),
		MaxMessages: q.Int("maxlen", 0, 1),
		MaxAge:      q.Duration("retention", 0, 1),
		KeepForever: q.Bool("forever", false),
		KeyWindow:   q.Duration("keys", 0, 1),
		Replicas:    q.Int("replicas", 0, 0),

		ReplicasTimeout: q.Duration("replicas_timeout", 0, 1),
	}
	if q.Enum("follow", "pubsub", "pubsub", "xread") == "xread" {
		o.Follow = FollowXRead
	}
	retention, err := backends.ParseRetention(q.Strings("retain"))
	if err != nil {
		return nil, err
	}
	o.Retention = retention
	client, err := openClient(u, q, dial.From(ctx))
	if err != nil {
		return nil, err
	}
	if err := q.Err(); err != nil {
		_ = client.Close()
		return nil, err
	}
	b, err := New(client, o)
	if err != nil {
		_ = client.Close()
		if errors.Is(err, errPrefix) {
			err = fmt.Errorf("%w: prefix has a brace or a control character", backends.ErrParameter)
		}
		return nil, err
	}
	b.owned = true
	return b, nil
}

// own are the parameters of Open. The others are go-redis' business.
var own = []string{"prefix", "maxlen", "retention", "forever", "keys", "follow", "retain", "replicas", "replicas_timeout", "sentinel_username", "sentinel_password"}

// useless are parameters of go-redis that have no effect here, or a bad one.
var useless = []string{
	"addr", "master_name", "username", "password", "max_retries", "min_retry_backoff", "max_retry_backoff", "dialer_retries", "dialer_retry_timeout",
	"pool_size", "pool_fifo", "pool_timeout", "min_idle_conns", "max_idle_conns", "max_active_conns", "max_concurrent_dials",
	"pipeline_pool_size", "pipeline_read_buffer_size", "pipeline_write_buffer_size", "context_timeout_enabled",
	"read_only", "replica_only", "use_disconnected_replicas", "route_by_latency", "route_by_latency_tolerance", "route_randomly",
}

func openClient(u *url.URL, q *backends.Query, dialer dial.Func) (redis.UniversalClient, error) {
	kind, err := parseKind(u.Scheme)
	if err != nil {
		return nil, err
	}
	sentinelUser, sentinelPassword := "", ""
	if kind.mode == "sentinel" {
		sentinelUser, sentinelPassword = q.String("sentinel_username", ""), q.String("sentinel_password", "")
	}
	values := u.Query()
	for name := range values {
		if slices.Contains(own, name) || slices.Contains(useless, name) {
			delete(values, name)
			continue
		}
		q.Strings(name) // go-redis has the say about it
	}
	v := *u
	v.Scheme = kind.scheme
	v.RawQuery, v.ForceQuery = values.Encode(), false

	switch kind.mode {
	case "sentinel":
		return openSentinel(v, sentinelUser, sentinelPassword)
	case "cluster":
		return openCluster(v)
	}
	if strings.Contains(u.Host, ",") {
		return nil, fmt.Errorf("%w: several hosts need the scheme redis+cluster or redis+sentinel", backends.ErrURL)
	}
	o, err := redis.ParseURL(v.String())
	if err != nil {
		return nil, parseError(err)
	}
	if dialer != nil {
		o.Dialer = dialer
	}
	return redis.NewClient(o), nil
}

type schemeKind struct{ scheme, mode string }

func parseKind(scheme string) (schemeKind, error) {
	base, mode, _ := strings.Cut(scheme, "+")
	switch base {
	case "redis", "valkey":
		return schemeKind{"redis", mode}, nil
	case "rediss", "valkeys":
		return schemeKind{"rediss", mode}, nil
	case "unix":
		return schemeKind{"unix", mode}, nil
	}
	return schemeKind{}, fmt.Errorf("%w: redisstream does not know it", backends.ErrScheme)
}

func openSentinel(v url.URL, user, password string) (redis.UniversalClient, error) {
	hosts, err := splitHosts(v.Host, "26379")
	if err != nil {
		return nil, err
	}
	master, db, _ := strings.Cut(strings.Trim(v.Path, "/"), "/")
	if master == "" {
		return nil, fmt.Errorf("%w: the path must name the master, as in redis+sentinel://host/mymaster/0", backends.ErrURL)
	}
	node := v.User
	v.User, v.Host, v.Path, v.RawPath = nil, hosts[0], "/"+db, ""
	o, err := redis.ParseFailoverURL(v.String())
	if err != nil {
		return nil, parseError(err)
	}
	o.SentinelAddrs, o.MasterName = hosts, master
	o.SentinelUsername, o.SentinelPassword = user, password
	if node != nil {
		o.Username = node.Username()
		o.Password, _ = node.Password()
	}
	o.TLSConfig = sharedTLS(o.TLSConfig, len(hosts)+1) // the master is one more
	o.DialTimeout = bounded(o.DialTimeout, dialTimeout)
	// go-redis asks a sentinel several times anyway, and all that within DialTimeout.
	o.DialerRetries = 1
	return redis.NewFailoverClient(o), nil
}

func openCluster(v url.URL) (redis.UniversalClient, error) {
	hosts, err := splitHosts(v.Host, "6379")
	if err != nil {
		return nil, err
	}
	if strings.Trim(v.Path, "/") != "" && strings.Trim(v.Path, "/") != "0" {
		return nil, fmt.Errorf("%w: a cluster has database 0 only", backends.ErrURL)
	}
	v.Host, v.Path, v.RawPath = hosts[0], "", ""
	values := v.Query()
	skipVerify := values.Get("skip_verify") // go-redis does not know it for clusters
	values.Del("skip_verify")
	v.RawQuery = values.Encode()
	o, err := redis.ParseClusterURL(v.String())
	if err != nil {
		return nil, parseError(err)
	}
	o.Addrs = hosts
	o.TLSConfig = sharedTLS(o.TLSConfig, len(hosts))
	switch {
	case skipVerify == "":
	case o.TLSConfig == nil:
		return nil, fmt.Errorf("%w: skip_verify needs TLS", backends.ErrParameter)
	case skipVerify == "true" || skipVerify == "1":
		o.TLSConfig.InsecureSkipVerify = true
	case skipVerify != "false" && skipVerify != "0":
		return nil, fmt.Errorf("%w: skip_verify must be true or false", backends.ErrParameter)
	}
	return redis.NewClusterClient(o), nil
}

// sharedTLS makes a configuration fit for all hosts: go-redis writes the first one's name into it.
func sharedTLS(c *tls.Config, hosts int) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.MinVersion = tls.VersionTLS12
	if hosts > 1 {
		c.ServerName = "" // each connection takes that of its own address
	}
	return c
}

func splitHosts(list, port string) ([]string, error) {
	var hosts []string
	for host := range strings.SplitSeq(list, ",") {
		h, p, err := net.SplitHostPort(host)
		if err != nil {
			h, p = strings.Trim(host, "[]"), port
		}
		if h == "" || p == "" {
			return nil, fmt.Errorf("%w: a host is empty", backends.ErrURL)
		}
		hosts = append(hosts, net.JoinHostPort(h, p))
	}
	return hosts, nil
}

var (
	malformed  = regexp.MustCompile(`^redis: invalid ([a-z_0-9]+) (number|duration|boolean)`)
	unexpected = regexp.MustCompile(`^redis: unexpected option: ([a-z_0-9, -]{1,80})$`)
)

// parseError reduces an error of go-redis' parsers, which quote values, to the parameter it is
// about.
func parseError(err error) error {
	if m := unexpected.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%w: %s is unknown (known: %s, and those of go-redis)", backends.ErrParameter, m[1], strings.Join(own[:len(own)-2], ", "))
	}
	if m := malformed.FindStringSubmatch(err.Error()); m != nil && m[1] != "database" {
		return fmt.Errorf("%w: %s must be a %s", backends.ErrParameter, m[1], m[2])
	}
	if strings.HasPrefix(err.Error(), "redis: invalid database") || strings.HasPrefix(err.Error(), "redis: invalid URL path") {
		return fmt.Errorf("%w: the path must be the number of a database", backends.ErrURL)
	}
	return fmt.Errorf("%w: go-redis cannot read it", backends.ErrURL)
}
