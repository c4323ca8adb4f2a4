package redisstream

import (
	"crypto/sha256"
	"strconv"
	"strings"
)

// keys makes the names of keys and channels. All names of a topic share the hash tag {topic}, so
// that in a cluster one script may use them together. A topic's braces and percent signs are
// percent-encoded: no topic can forge another's tag, and equal names come from equal topics only.
type keys struct {
	prefix string
	// suffix tells channels of one database from those of another: keys belong to a database, but
	// Pub/Sub has one name space for all.
	suffix string
}

func newKeys(prefix string, db int) keys {
	k := keys{prefix: prefix}
	if db != 0 {
		k.suffix = ":db" + strconv.Itoa(db)
	}
	return k
}

var (
	topicEncoder = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D")
	topicDecoder = strings.NewReplacer("%25", "%", "%7B", "{", "%7D", "}")
)

// stream returns the key of a topic's stream.
func (k keys) stream(topic string) string {
	if strings.ContainsAny(topic, "%{}") {
		topic = topicEncoder.Replace(topic)
	}
	return k.prefix + "{" + topic + "}"
}

// topic returns the name of the topic that has a stream.
func (k keys) topic(stream string) string {
	return topicDecoder.Replace(strings.TrimSuffix(strings.TrimPrefix(stream, k.prefix+"{"), "}"))
}

// probe returns a key that no topic has, as no topic has an empty name.
func (k keys) probe() string { return k.stream("") + ":ping" }

// channel returns the Pub/Sub channel of a topic.
func (k keys) channel(stream string) string { return stream + k.suffix }

// What is known of a topic beside its stream: the set of IDs whose messages were erased; from
// where on to which entry everything before the oldest entry was erased; and two hashes of the IDs
// of messages by digests of their idempotency keys, the newer keys and the former ones.
func erasedKey(stream string) string     { return stream + ":erased" }
func frontKey(stream string) string      { return stream + ":front" }
func newerKeysKey(stream string) string  { return stream + ":keys" }
func formerKeysKey(stream string) string { return stream + ":keys:former" }

// keyDigest returns what stands for an idempotency key in Redis. A key may have 255 bytes.
func keyDigest(key string) string {
	sum := sha256.Sum256([]byte(key))
	return string(sum[:16])
}
