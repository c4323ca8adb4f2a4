// Package gochannel opens gochannel:// URLs: topics over Watermill's Pub/Sub within one process.
// Importing it registers the scheme. Who has no Watermill code that publishes into the same Pub/Sub
// wants backends/memory instead, which keeps and replays messages.
package gochannel

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

func init() { backends.Register("gochannel", Open) }

// Open is the backends.Opener of gochannel://. Parameters:
//
//	type=name          the metadata key with the type of messages of other programs; default none
//	probes=false       write nothing to the topics: see watermill.Options.NoProbes
//	probe_every=30s    see watermill.Options.ProbeEvery
//
// Each call opens a Pub/Sub of its own, and Close closes it. New takes one that exists.
func Open(_ context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	o := watermill.Options{
		Decode:     watermill.DecodeForeign(q.String("type", "")),
		NoProbes:   !q.Bool("probes", true),
		ProbeEvery: q.Duration("probe_every", 0, time.Second),
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	if u.User != nil || u.Host != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%w: gochannel has no use for a user, host or path", backends.ErrURL)
	}
	p := NewPubSub()
	o.OnClose = p.Close
	return New(p, o)
}

// NewPubSub returns a Pub/Sub that keeps the order of a topic: publishing waits until every
// subscription has acknowledged. Without that Watermill starts a goroutine for each message and
// subscription, which come in any order and pile up behind a slow one.
func NewPubSub() *gochannel.GoChannel {
	return gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, nil)
}

// New returns a backend over what NewPubSub returned. Of the options, those that follow from the
// Pub/Sub are set by New.
func New(p *gochannel.GoChannel, o watermill.Options) (*watermill.Backend, error) {
	o.Name, o.Ordered, o.Persistent, o.Local = "gochannel", true, false, true
	return watermill.New(p, p, o)
}
