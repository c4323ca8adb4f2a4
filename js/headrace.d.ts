/** What a feed is followed with. */
export interface FeedOptions {
  /**
   * The position to start behind: an id of the feed, for example the one that the server's page was
   * rendered at. It wins over what `remember` has kept. Default: where the feed lets new clients start.
   */
  cursor?: string;
  /** Who the page's user is. Tabs of different users share nothing. Default: nobody in particular. */
  user?: string | number;
  /** Send cookies to a feed of another origin. Default: false. */
  credentials?: boolean;
  /**
   * Seconds between the heartbeats that are asked for, from 5 to 60. A stall is noticed within two.
   * Default: 10.
   */
  heartbeat?: number;
  /**
   * Share one connection with the other tabs. It needs Web Locks and BroadcastChannel, which browsers
   * have in secure contexts only; without them each tab has its own. Switch it off for streams whose
   * events have no ids. Default: true.
   */
  share?: boolean;
  /**
   * Go on behind the last event after a reload of the page, instead of starting anew. For pages that
   * still show what came before, from storage of their own. Default: false.
   */
  remember?: boolean;
}

/**
 * The state of the connection, wherever it is held: not yet live; live; silent for too long; lost,
 * with another attempt to come; over for good.
 */
export type FeedState = "connecting" | "live" | "stale" | "reconnecting" | "ended";

/** A feed that is followed. Its events are those of the feed, by their types, and `statechange`. */
export interface Feed extends EventTarget {
  readonly state: FeedState;
  /**
   * The HTTP status that has ended the feed: 204 behind its end, or that of a refusal. 0 if none has,
   * `close` as an event for example.
   */
  readonly status: number;
  /** The position behind the last event, "" before the first one. */
  readonly cursor: string;
  /** Stops following, at a logout for example. Other tabs go on. The feed cannot be opened again. */
  close(): void;

  addEventListener(
    type: "statechange",
    listener: ((this: Feed, event: Event) => unknown) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** Listens for messages of a type, `message` being those without one, or for gap, snapshot, close. */
  addEventListener(
    type: string,
    listener: ((this: Feed, event: MessageEvent<string>) => unknown) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/**
 * Follows the feed at a URL until it ends or `close` is called. It returns at once and never throws
 * for a feed that cannot be reached. Add listeners before you wait for anything: messages of types
 * that nobody listens for pass by.
 */
export function follow(url: string | URL, options?: FeedOptions): Feed;
