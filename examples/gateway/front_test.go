package main

import (
	"testing"

	"github.com/headrace/headrace/examples/internal/fronttest"
)

func TestFront(t *testing.T) {
	fronttest.Program{Run: run, Args: []string{"-streams", "20"}, Stream: "topics/news", Each: 10}.Check(t)
}
