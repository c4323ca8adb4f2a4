// Package redisstream is the backend that keeps topics in Redis Streams.
package redisstream
