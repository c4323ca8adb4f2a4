// Package clients tests that the clients which people use follow a feed: the EventSource of
// Chromium, the npm packages eventsource and @microsoft/fetch-event-source, and htmx. It has no
// code of its own.
package clients
