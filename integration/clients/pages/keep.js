// Makes the EventSources of htmx go on where the one before was. It must be told all types of messages, and be called before htmx
// looks at the page.
function keepCursor(types) {
  let cursor = "";
  htmx.createEventSource = (url) => {
    const from = new URL(url, location.href);
    if (cursor) from.searchParams.set("lastEventId", cursor);
    const source = new EventSource(from, { withCredentials: true });
    for (const type of types) {
      source.addEventListener(type, (e) => (cursor = e.lastEventId));
    }
    return source;
  };
}
