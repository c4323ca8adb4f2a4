//go:build race

package amqp

// raceEnabled: watermill-amqp 3.1.0 writes and reads the state of a lost connection without a lock,
// so the race detector ends every test in which one is lost.
const raceEnabled = true
