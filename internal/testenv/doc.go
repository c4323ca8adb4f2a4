// Package testenv is what the tests of this module share: programs they need from the machine
// (Need), servers they start (Start, Redis, RedisCluster, RedisSentinels) on ports that nobody else
// takes (Ports), a network between that is slow or broken (NewRelay), waiting for what other
// processes do (Eventually), and a check that a package's tests leave no goroutine behind (Main).
// Only tests import it.
package testenv
