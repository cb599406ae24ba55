/* @ts-self-types="./client.d.ts" */

// Follows the events of a Millstream job from a web page: by EventSource where that works, by
// long polling where something on the way holds events back, with one cursor for both. Every
// event comes once and in order; the watch ends behind the last one.

const terminal = new Set(["job.succeeded", "job.failed", "job.canceled"])
const ended = new Set(["succeeded", "failed", "canceled"])
const patience = 10_000 // ms between two tries of a server that is away, at most
const glance = 30_000 // ms between two looks of a page that nobody sees

// When the page was hidden. Over all its tabs a browser has six connections to a server on HTTP/1.1,
// and a stream takes one of them for as long as it is open.
let hiddenSince = isHidden() ? 0 : Infinity
for (const [target, name] of wakers()) {
  target.addEventListener(name, () => {
    if (name === "pagehide") hiddenSince = 0
    else hiddenSince = isHidden() ? Math.min(hiddenSince, Date.now()) : Infinity
  })
}

export function watch(url, options = {}) {
  return new Watch(url, options)
}

class Watch {
  cursor
  transport = "eventsource"

  #url
  #options
  #seq = 0
  #over = false
  #queue = []
  #wake = () => {}
  #stop = new AbortController()
  #failure

  constructor(url, options) {
    this.#url = new URL(url, import.meta.url) // as links are: from the server that this file is of
    this.#options = { firstFrame: 3000, asleep: 10_000, hidden: 5000, wait: 25, EventSource: globalThis.EventSource, fetch: globalThis.fetch.bind(globalThis), ...options }
    this.cursor = this.#options.after ?? ""
    if (!this.#options.EventSource) this.transport = "polling"
    this.#options.signal?.addEventListener("abort", () => this.close())
    if (this.#options.signal?.aborted) this.close()
    this.finished = this.#run()
    this.finished.catch(() => {}) // it may be asked for later, or the iterator be read instead
  }

  /** Ends the watch; what came before stays delivered. */
  close() {
    this.#over = true
    this.#stop.abort()
    this.#wake()
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.#queue.length > 0) yield this.#queue.shift()
      if (this.#failure) throw this.#failure
      if (this.#over) return
      await new Promise((resolve) => { this.#wake = resolve })
    }
  }

  async #run() {
    try {
      let deaths = 0
      let rest = 0 // before the next look, while nobody sees the page
      while (!this.#over) {
        if (this.#unseen()) {
          await this.#seenAgain(rest)
          if (this.#unseen()) await this.#page(0)
          rest = glance
          continue
        }
        rest = glance
        if (this.transport === "polling") {
          await this.#page(this.#options.wait)
          continue
        }
        const why = await this.#stream()
        if (this.#over || why === "hidden") continue
        deaths = why === "dead" ? deaths + 1 : 0
        if (why === "muted" || deaths >= 3) this.#fall()
        else await this.#page(0) // what came meanwhile; or why there is nothing to come
      }
    } catch (error) {
      this.#failure = error
      this.#over = true
      this.#wake()
      throw error
    }
  }

  // Whether nobody has seen the page for a while.
  #unseen() {
    return Date.now() - hiddenSince >= this.#options.hidden
  }

  // Waits until the page is seen, but not longer than that.
  #seenAgain(ms) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        for (const [target, name] of wakers()) target.removeEventListener(name, look)
        this.#stop.signal.removeEventListener("abort", done)
        resolve()
      }
      const look = () => { if (!this.#unseen()) done() }
      const timer = setTimeout(done, ms)
      for (const [target, name] of wakers()) target.addEventListener(name, look)
      this.#stop.signal.addEventListener("abort", done)
    })
  }

  #fall() {
    this.transport = "polling"
    this.#options.onTransport?.(this.transport)
  }

  async #address(query) {
    const url = new URL(this.#url)
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
    if (this.cursor) url.searchParams.set("after", this.cursor)
    if (this.#options.types) url.searchParams.set("types", this.#options.types.join(","))
    return url
  }

  async #token() {
    const { token } = this.#options
    return typeof token === "function" ? await token() : token
  }

  // Resolves when the stream is of no more use: "muted" if something on the way holds back what
  // the server sends, "asleep" if the page was, "hidden" if nobody sees it, "cut" if it ended, and
  // "dead" if nothing had come by then.
  async #stream() {
    const address = await this.#address({ names: "off" })
    const token = await this.#token()
    if (token) address.searchParams.set("access_token", token)
    return new Promise((resolve, reject) => {
      const source = new this.#options.EventSource(address.href)
      let opened = false
      let failed = false
      let heard = false
      let ended = false
      let timer
      let ticked = Date.now()
      const end = (why, error) => {
        ended = true
        source.close()
        clearTimeout(timer)
        clearInterval(ticker)
        for (const [target, name] of wakers()) target.removeEventListener(name, woken)
        this.#stop.signal.removeEventListener("abort", over)
        error ? reject(error) : resolve(why === "dead" && heard ? "cut" : why)
      }
      const over = () => end("over")
      const woken = () => {
        const slept = Date.now() - ticked > this.#options.asleep
        ticked = Date.now()
        if (this.#unseen()) return end("hidden")
        if (slept && globalThis.document?.visibilityState !== "hidden") end("asleep")
      }
      const ticker = setInterval(woken, 1000)
      for (const [target, name] of wakers()) target.addEventListener(name, woken)
      this.#stop.signal.addEventListener("abort", over)
      // A stream on which nothing comes is silent, or muted: a page tells which. If the browser has no
      // connection left, the stream has to wait for one, and the page behind it. If it failed, the
      // browser waits before it tries again, while the page shows that the server is there.
      const probe = async (delay) => {
        if (heard) return
        try {
          const more = await this.#page(0, true)
          const muted = () => more || more === false && !opened
          if (muted()) await this.#sleep(500) // both may have been sent just now
          if (heard || ended) return
          if (muted()) return end(failed ? "dead" : "muted")
        } catch (error) {
          return end("", error)
        }
        timer = setTimeout(() => probe(Math.min(2 * delay, 60_000)), delay)
      }
      timer = setTimeout(() => probe(2 * this.#options.firstFrame), this.#options.firstFrame)
      source.onopen = () => { opened = true }
      source.onmessage = (message) => {
        heard = true
        const event = JSON.parse(message.data)
        if (event.type === "stream.end" && event.data.reason === "unauthorized") return end("dead")
        this.#take(event)
        if (this.#over) over()
      }
      source.onerror = () => {
        failed = true
        if (source.readyState === 2) end("dead")
      }
    })
  }

  // Takes what there is behind the cursor, or waits for it so many seconds, and reports whether
  // there was any. Once: does not try again, and reports nothing if there was no answer.
  async #page(wait, once = false) {
    for (let pause = 500; !this.#over; pause = Math.min(2 * pause, patience)) {
      const address = await this.#address({ format: "json", limit: "1000", wait: String(wait) })
      const token = await this.#token()
      let response
      try {
        response = await this.#options.fetch(address.href, {
          headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store", signal: this.#stop.signal,
        })
        if (response.ok) {
          const page = await response.json()
          for (const event of page.events) this.#take(event)
          this.cursor = page.cursor
          if (page.done) this.close()
          return page.events.length > 0
        }
      } catch (error) {
        if (this.#over) return false
        response = undefined // it is away, or the answer was cut
      }
      if (response && response.status < 500 && response.status !== 429) throw await problemOf(response)
      if (response && response.status === 500) throw await problemOf(response)
      if (once) return undefined
      await this.#sleep(Math.max(pause, 1000 * Number(response?.headers.get("Retry-After") ?? 0)) * (0.8 + 0.4 * Math.random()))
    }
    return false
  }

  #take(event) {
    if (event.type === "stream.end") return
    if (event.type === "stream.reset") this.#seq = event.seq
    else if (event.seq <= this.#seq) return // it came on two ways
    this.#seq = event.seq
    this.cursor = event.id
    this.#queue.push(event)
    if (this.#options.onEvent) {
      this.#queue.length = 0 // nobody iterates as well
      this.#options.onEvent(event)
    }
    const over = event.type === "stream.reset" && event.data.reason === "latest" && ended.has(event.data.job.status)
    if (over || terminal.has(event.type)) this.close() // behind a snapshot of its end there is nothing
    this.#wake()
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#stop.signal.addEventListener("abort", () => { clearTimeout(timer); resolve() }, { once: true })
    })
  }
}

function isHidden() {
  return globalThis.document?.visibilityState === "hidden"
}

// What a page hears of when it wakes or goes, or is on a network again.
function wakers() {
  const all = []
  if (globalThis.document) all.push([document, "visibilitychange"])
  if (globalThis.addEventListener) all.push([globalThis, "pageshow"], [globalThis, "pagehide"], [globalThis, "online"])
  return all
}

async function problemOf(response) {
  let problem
  try {
    problem = await response.json()
  } catch {
    problem = { type: "about:blank", title: response.statusText, status: response.status }
  }
  return Object.assign(new Error(problem.detail ?? problem.title), { problem })
}
