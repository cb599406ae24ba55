/** An event of a job: the same object on every transport. */
export interface JobEvent<Data = any> {
  /** The cursor behind this event. */
  id: string
  /** 1, 2, 3… within the job. */
  seq: number
  /** job.queued, job.progress, …, or a name of the worker's own; stream.reset: start over from data.job. */
  type: string
  job: string
  attempt: number
  time: string
  data: Data
}

export interface WatchOptions {
  /** Begin behind this event; default: with the first. "latest": a stream.reset with the job as it stands in data.job, and what follows. */
  after?: string
  /** A read token, or what gets a fresh one whenever it is needed. */
  token?: string | (() => string | Promise<string>)
  /** Only these types, and the last event. */
  types?: string[]
  /** Called for each event, in place of iterating. */
  onEvent?: (event: JobEvent) => void
  /** Called when the transport changes, which it does once, to polling. */
  onTransport?: (transport: "eventsource" | "polling") => void
  signal?: AbortSignal
  /** Milliseconds for the first sign of a stream before it counts as held back; 3000. */
  firstFrame?: number
  /** Milliseconds without a timer after which the page counts as having slept; 10000. */
  asleep?: number
  /** Milliseconds after which a hidden page gives its connection back, and looks each half minute until it is seen again; 5000. Infinity: it keeps it. */
  hidden?: number
  /** Seconds of a long poll; 25. */
  wait?: number
  EventSource?: typeof EventSource
  fetch?: typeof fetch
}

/** A job that is watched. Iterate it for its events, or use onEvent. */
export interface Watch extends AsyncIterable<JobEvent> {
  /** Where it is: give it as `after` to go on later. */
  readonly cursor: string
  readonly transport: "eventsource" | "polling"
  /** Resolves when the watch has ended; rejects with an error that has a `problem` (RFC 9457). */
  readonly finished: Promise<void>
  close(): void
}

/** Watches the job whose `links.events` is url; a path is one of the server that this file is of. */
export function watch(url: string | URL, options?: WatchOptions): Watch
