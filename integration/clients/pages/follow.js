import { fetchEventSource } from "@microsoft/fetch-event-source";

class Ended extends Error {}

// Follows a feed until it ends for good: then the promise is fulfilled. It is rejected when the server refuses the request.
export async function follow(url, handle, { headers = {}, cursor = "" } = {}) {
  const stop = new AbortController();
  try {
    await fetchEventSource(url, {
      headers,
      signal: stop.signal,
      openWhenHidden: true, // otherwise the stream ends whenever the tab is hidden
      // The library takes an event as seen when it reads the id; here it is seen when handle has returned.
      fetch: (input, init) => {
        const { "last-event-id": _, ...rest } = init.headers;
        return fetch(input, { ...init, headers: cursor ? { ...rest, "last-event-id": cursor } : rest });
      },
      async onopen(response) {
        if (response.status === 204) throw new Ended("the feed has ended");
        const { status } = response;
        if (status >= 400 && status < 500 && status !== 429) throw new Ended(`refused: ${status}`, { cause: response });
        if (!response.headers.get("content-type")?.startsWith("text/event-stream")) throw new Error(`no stream: ${status}`);
      },
      onmessage(event) {
        if (event.event === "close") return stop.abort();
        handle(event);
        if (event.id) cursor = event.id;
      },
      onclose() {
        throw new Error("the stream was rotated"); // without this the promise is fulfilled here, and nobody reconnects
      },
      onerror(err) {
        if (err instanceof Ended) throw err; // any other error: come back, after the time that the server stated
      },
    });
  } catch (err) {
    if (!(err instanceof Ended) || err.cause) throw err;
  }
}
