package main

import (
	"testing"

	"github.com/headrace/headrace/examples/internal/fronttest"
)

func TestFront(t *testing.T) {
	fronttest.Program{Run: run, Stream: "events", Each: clientStreams}.Check(t)
}
