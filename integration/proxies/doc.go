// Package proxies tests the configurations of docs/proxies.md, as they stand there, with the
// proxies that Debian has. It has no code of its own.
package proxies
