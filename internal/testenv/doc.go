// Package testenv is what the tests of this module share: programs they need from the machine (Need) and a check that a package's
// tests leave no goroutine behind (Main). Only tests import it.
package testenv
