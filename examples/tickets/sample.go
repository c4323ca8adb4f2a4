package main

import (
	"context"
	"fmt"
)

// sample is a ticket that a help desk in memory opens with.
type sample struct {
	subject, assignee, comment, status string
}

var samples = []sample{
	{"Coffee machine is out of beans", "Grace", "Beans are on their way.", string(statusClosed)},
	{"Export ends half way", "Ada", "Can you send a screenshot?", string(statusPending)},
	{"Printer on fire", "", "Is it still burning?", string(statusOpen)},
}

// seed makes a few tickets, so that the first visitor has something to look at.
func seed(ctx context.Context, tickets store) error {
	for _, s := range samples {
		made, err := newThread(s.subject)
		if err == nil {
			err = tickets.create(ctx, made)
		}
		if err != nil {
			return fmt.Errorf("making a sample: %w", err)
		}
		for _, edit := range []func() (edit, error){
			func() (edit, error) { return assigning(s.assignee) },
			func() (edit, error) { return commenting(s.comment) },
			func() (edit, error) { return moving(s.status) },
		} {
			e, err := edit()
			if err == nil {
				_, err = tickets.change(ctx, made.ID, e)
			}
			if err != nil {
				return fmt.Errorf("making a sample: %w", err)
			}
		}
	}
	return nil
}
