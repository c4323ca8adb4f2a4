package table

import "maps"

// The notes that several clients share.
const (
	noteStall = "It does not notice a connection on which nothing comes any more. Ask for visible heartbeats, by the query parameter `heartbeat`, " +
		"and open a new stream with the last ID when two of them fail to come."
	note503     = "Any status but 200 ends it. Open another one after a while, with `lastEventId` in the URL."
	noteReturns = "It asks again after 403, and waits between. Close it at a status from 400 to 499, other than 429. " +
		"It tells the status: sse.js in `responseCode` of its `error`, htmx 4 in `htmx:sse:error`, launchdarkly to its error handler, donovanhide in `Errors`, " +
		"r3labs to its `ResponseValidator`, eventsource-client to the `fetch` that it is given."
	noteReturnsBlind = "It asks again after 403, and waits between. It does not tell the status: ask with `fetch` when it has failed several times, and close it."
	noteFinish       = "It takes 204 for a failure and comes back; a feed asks it to wait for a minute or more. Close it at the event `close`."
	noteLines        = "Its work grows with the square of the number of lines: half a minute or more. Send such data as one line, JSON for example."
	noteLastLine     = "It takes an ID before it hands over the message: one of which nothing but the last line end is missing when the connection breaks is lost. Take version 3 or newer."
	noteHalf         = "It hands over the half of an event whose connection has ended. Send data that shows where it ends, such as JSON, and pass over what " +
		"does not parse: the whole message comes again."
	noteClean = "It takes a clean end for the end of everything. Set `Options.Ending` to `feed.BreakRotations`; a proxy that ends broken responses cleanly " +
		"ends it all the same, so start it anew when it returns."
	noteChunks = "It does one request and states no cursor. Give each answer a topic of its own and `Start` its feed at `hub.Earliest()`: who asks again gets the answer from its beginning."
	noteCurl   = "It does one request. Start it anew with `-H 'Last-Event-ID: …'` and the ID that it showed last."
)

func eventSource(more map[string]limit) map[string]limit {
	limits := map[string]limit{"503": {stops, note503}, "stall": {unaware, noteStall}}
	maps.Copy(limits, more)
	return limits
}

var oldNPM = map[string]limit{
	"cut": {loses, noteLastLine}, "cut, ended": {loses, noteLastLine}, "topics": {loses, noteLastLine},
	"1 MiB": {"", noteLines}, "stall": {unaware, noteStall},
}

var curlLimits = map[string]limit{
	"cut": {stops, noteCurl}, "cut, ended": {stops, noteCurl}, "rotation": {stops, noteCurl}, "rotation, broken": {stops, noteCurl},
	"gap": {stops, noteCurl}, "topics": {stops, noteCurl}, "503": {stops, noteCurl}, "restart": {stops, noteCurl},
	"stall": {unaware, "It waits for ever. `--max-time 600` ends it; start it anew as after any other end."},
}

var chunkLimits = map[string]limit{
	"cut": {stops, noteChunks}, "cut, ended": {stops, noteChunks}, "rotation": {stops, noteChunks}, "rotation, broken": {stops, noteChunks},
	"gap": {stops, noteChunks}, "topics": {stops, noteChunks}, "503": {stops, noteChunks}, "restart": {stops, noteChunks},
	"stall":  {unaware, "It waits for ever. Abort its request after a while without a chunk, and ask again."},
	"1 MiB":  {"", "Its chunks are JSON, which is one line."},
	"binary": {"", "It takes nothing but JSON. Put base64 into a chunk."},
}

// clients are the rows of the table.
var clients = []client{
	{name: "Chromium", start: page(chromium, "eventsource"), page: true, short: true, limits: eventSource(nil)},
	{name: "Firefox", start: page(firefox, "eventsource"), page: true, limits: eventSource(map[string]limit{
		"NUL": {corrupts, "It drops NUL from data. Send JSON, which has `\\u0000` for it, or declare the message `Binary`."},
	})},
	{name: "WebKit", start: page(webkit, "eventsource"), page: true, limits: eventSource(nil)},
	{name: "npm eventsource 1", start: node("eventsource1"), limits: oldNPM},
	{name: "npm eventsource 2", start: node("eventsource2"), short: true, limits: oldNPM},
	{name: "npm eventsource 3", start: node("eventsource3"), limits: eventSource(nil)},
	{name: "npm eventsource 4", start: node("eventsource4"), limits: eventSource(nil)},
	{name: "undici 6", start: node("undici6"), limits: eventSource(map[string]limit{
		"restart": {stops, "It stays silent for ever when a connection is refused. Take undici 7."},
	})},
	{name: "undici 7", start: node("undici7"), short: true, limits: eventSource(nil)},
	{name: "eventsource-client", start: node("eventsource-client"), limits: map[string]limit{"403": {returns, noteReturns}, "stall": {unaware, noteStall}}},
	{name: "TanStack streamedQuery, over eventsource-client", start: node("tanstack-query"), limits: map[string]limit{"403": {returns, noteReturns}, "stall": {unaware, noteStall}}},
	{name: "event-source-polyfill, with a `heartbeatTimeout`", start: page(chromium, "event-source-polyfill"), page: true, limits: map[string]limit{"503": {stops, note503}}},
	{name: "reconnecting-eventsource", start: page(chromium, "reconnecting-eventsource"), page: true, limits: map[string]limit{
		"403": {returns, noteReturnsBlind}, "stall": {unaware, noteStall}, "finish": {returns, noteFinish},
	}},
	{name: "sse.js, with `autoReconnect`", start: page(chromium, "sse.js"), page: true, limits: map[string]limit{
		"cut, ended": {corrupts, noteHalf}, "403": {returns, noteReturns}, "stall": {unaware, noteStall}, "finish": {returns, noteFinish},
	}},
	{name: "fetch-event-source, with the recipe", start: page(chromium, "fetch-event-source"), page: true, short: true, limits: map[string]limit{
		"Unicode": {corrupts, "It drops U+FEFF from the beginning of a line. Send JSON."}, "stall": {unaware, noteStall},
	}},
	{name: "htmx 2", start: page(chromium, "htmx2"), page: true, limits: map[string]limit{
		"503": {loses, "It opens another EventSource, without a cursor. Use the recipe for [htmx](#htmx)."}, "403": {returns, noteReturnsBlind},
		"stall": {unaware, noteStall}, "finish": {returns, "It opens another EventSource after 204. Set `sse-close=\"close\"`."},
	}},
	{name: "htmx 4", start: page(chromium, "htmx4"), page: true, limits: map[string]limit{
		"403": {returns, noteReturns}, "stall": {unaware, noteStall}, "finish": {returns, "It takes 204 for a failure and comes back. Set `hx-sse:close=\"close\"`."},
	}},
	{name: "Turbo", start: page(chromium, "turbo"), page: true, limits: eventSource(nil)},
	{name: "Datastar", missing: "The npm registry has no release candidate of it."},
	{name: "Vercel AI SDK, with `MessagesOnly` and `Post`", start: node("ai-sdk"), chunks: true, limits: chunkLimits},
	{name: "`sse.Client`", start: self("sse.Client"), short: true},
	{name: "tmaxmax/go-sse, with a larger buffer", start: self("tmaxmax"), limits: map[string]limit{
		"503": {stops, "Any status but 200 ends `Connect`. Call it again after a while, on the same connection: it states the last ID."}, "stall": {unaware, noteStall},
	}},
	{name: "r3labs/sse, with a larger buffer", start: self("r3labs"), limits: map[string]limit{
		"cut": {corrupts, noteHalf}, "topics": {told, noteHalf}, "cut, ended": {stops, noteClean}, "rotation": {stops, noteClean},
		"403": {returns, noteReturns}, "stall": {unaware, noteStall},
	}},
	{name: "launchdarkly/eventsource, with a read timeout", start: self("launchdarkly"), short: true, limits: map[string]limit{
		"403": {returns, noteReturns}, "1 MiB": {"", noteLines}, "finish": {returns, noteFinish},
	}},
	{name: "donovanhide/eventsource", start: self("donovanhide"), limits: map[string]limit{
		"403": {returns, noteReturns}, "1 MiB": {"", noteLines}, "stall": {unaware, noteStall}, "finish": {returns, noteFinish},
	}},
	{name: "python3-requests, in a loop with a read timeout", start: requests},
	{name: "curl", start: curl, limits: curlLimits},
}
