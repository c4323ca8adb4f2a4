// Package faults runs hubs over real Redis servers that fail, as a seed chooses, and checks what
// publishers and readers went through. It has no code of its own: it is a test, see TestSeeds, and
// make test-faults runs it.
package faults
