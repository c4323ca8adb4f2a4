// Package integration holds tests of the whole: real servers, real clients, faults. It has no code
// of its own.
package integration
