// Package table tests what other people's clients make of a feed, client by client and scenario by
// scenario, and holds the table of docs/clients.md to it. It has no code of its own.
//
// A client is an entry of clients: how it is started, and where it does something else than go on
// without a loss. A scenario is an entry of scenarios. Each pair is a cell, and each cell a run of
// its own: make test-clients runs them all, SHORT=1 those that need nothing but what make deps
// installs and take a minute together.
package table
