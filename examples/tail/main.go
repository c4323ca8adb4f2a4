// Command tail follows a feed in a terminal or for another program, over reconnections and over
// restarts of its own. It publishes too, to feeds that take messages as the gateway's do.
//
//	go -C examples run ./tail http://127.0.0.1:8080/topics/news
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/headrace/headrace/sse"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr, isTerminal(os.Stdout)})
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "tail:", err)
		os.Exit(1)
	}
}

// stdio is what the program is connected to.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	terminal bool // out is one
}

// isTerminal reports whether a file is a device such as a terminal. That /dev/null is one too does
// no harm.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// run follows, or publishes, until there is nothing more or ctx ends, which is no error.
func run(ctx context.Context, args []string, std stdio) error {
	flags := flag.NewFlagSet("tail", flag.ContinueOnError)
	flags.SetOutput(std.err)
	flags.Usage = func() {
		fmt.Fprintln(std.err, "usage: tail [flags] URL")
		flags.PrintDefaults()
	}
	header := headerFlag{}
	flags.Var(header, "header", "`header` of the requests, such as 'Authorization: Bearer …'; may be given several times")
	since := flags.String("since", "", "begin behind the event with this `ID`")
	sinceFile := flags.String("since-file", "", "`file` that keeps the ID of the last event: go on behind it. It is made where it does not exist")
	format := flags.String("format", "auto", "text, json for a line of JSON for each event, or auto: text on a terminal, else json")
	colour := flags.String("colour", "auto", "always, never, or auto: on a terminal, unless NO_COLOR is set")
	publishes := flags.Bool("publish", false, "send each line of the standard input to the URL as a message, instead of following")
	typ := flags.String("type", "", "`type` of the messages that are published")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		// Not which: a URL may hold a token.
		return fmt.Errorf("there must be one URL behind the flags, not %d arguments", flags.NArg())
	}
	p := printer{out: std.out}
	var err error
	if p.json, err = choose("format", *format, "json", "text", !std.terminal); err != nil {
		return err
	}
	if p.colour, err = choose("colour", *colour, "always", "never", std.terminal && os.Getenv("NO_COLOR") == ""); err != nil {
		return err
	}
	if *publishes {
		err = publish(ctx, flags.Arg(0), http.Header(header), *typ, std)
	} else {
		client := &sse.Client{URL: flags.Arg(0), Header: http.Header(header), LastEventID: *since}
		if *sinceFile != "" {
			client.Cursor = sse.CursorFile(*sinceFile)
		}
		err = follow(ctx, client, p, std.err)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// choose reads a flag that is yes, no or auto.
func choose(name, value, yes, no string, auto bool) (bool, error) {
	switch value {
	case yes:
		return true, nil
	case no:
		return false, nil
	case "auto":
		return auto, nil
	}
	return false, fmt.Errorf("-%s must be %s, %s or auto", name, yes, no)
}

// headerFlag collects headers.
type headerFlag http.Header

// String implements flag.Value. Values may be secret.
func (h headerFlag) String() string { return "" }

// Set implements flag.Value.
func (h headerFlag) Set(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if name = strings.TrimSpace(name); !ok || name == "" {
		return errors.New("it must be a name, a colon and a value")
	}
	http.Header(h).Add(name, strings.TrimSpace(value))
	return nil
}
