package main

import (
	"context"
	"crypto/rand"
	"log/slog"
)

// samples are commands that the desk opens with, so that the first visitor has something to look
// at.
var samples = []command{
	BookRoom{Room: 102, Guest: "Ada Lovelace"},
	BookRoom{Room: 201, Guest: "Grace Hopper"},
	CheckIn{Room: 201},
	BookRoom{Room: 302, Guest: "Mary Somerville"},
	CheckIn{Room: 302},
	CheckOut{Room: 302},
}

// seed has the samples decided, in their order. What cannot be published now is with the next
// command.
func seed(ctx context.Context, d *desk) {
	for _, c := range samples {
		if err := d.handle(ctx, rand.Text(), c); err != nil {
			slog.Warn("cqrs: a sample could not be published yet", "error", err)
		}
	}
}
