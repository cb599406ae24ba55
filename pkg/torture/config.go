package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

type object map[string]any

// The kinds of work.
const (
	kindLines  = "lines"  // a command that says who and how far it is
	kindFails  = "fails"  // the same, which fails twice
	kindDeaf   = "deaf"   // the same, which ignores SIGTERM, and takes long
	kindTokens = "tokens" // an upstream that streams, and may be asked again
	kindOnce   = "once"   // one that may not
	kindPull   = "pull"   // a worker of ours
	kindBulk   = "bulk"   // a command whose result is too large to stand in the job
)

const (
	forever   = 1000            // attempts: as many as the faults take
	leaseTime = 2 * time.Second // of a pull worker
	deafSteps = 4 * steps
)

// script is a command that says its lines, on the file descriptors there are for it.
func script(before string, n int) []string {
	return []string{"sh", "-c", fmt.Sprintf(`%s
i=0
while [ $i -lt %d ]; do
  i=$((i+1))
  echo "$MILLSTREAM_RUN $i/%d"
  [ -z "$pad" ] || echo "$pad $i"
  [ $((i %% 4)) -ne 0 ] || echo "{\"type\":\"half\",\"data\":{\"run\":\"$MILLSTREAM_RUN\",\"n\":$i,\"of\":0}}" >&3
  sleep %.2f
done`, before, n, n, stepTime.Seconds())}
}

// bulky adds a line of 8 KiB to each step: all of them are more than the 64 KiB that stand
// in a job.
const bulky = `
pad=................................................................
for x in 1 2 3 4 5 6 7; do pad=$pad$pad; done`

// failing lets an attempt fail before the third.
const failing = `[ "$MILLSTREAM_ATTEMPT" -ge 3 ] || { echo "$MILLSTREAM_RUN 1/0"; echo "$MILLSTREAM_RUN fails" >&2; exit 7; }`

func kinds(upstream string) object {
	run := func(name string, how object) object {
		return object{
			name: how, "max_attempts": forever, "concurrency": 16, "timeout": "15s",
			"backoff": object{"first": "50ms", "max": "200ms"},
		}
	}
	return object{
		kindLines:  run("exec", object{"command": script("", steps), "grace": "300ms"}),
		kindFails:  run("exec", object{"command": script(failing, steps), "grace": "300ms"}),
		kindDeaf:   run("exec", object{"command": script("trap '' TERM", deafSteps), "grace": "300ms"}),
		kindBulk:   run("exec", object{"command": script(bulky, steps), "grace": "300ms"}),
		kindTokens: run("http", object{"url": upstream + "/tokens", "idempotent": true}),
		kindOnce:   run("http", object{"url": upstream + "/once"}),
	}
}

func pull() object {
	return object{"pull": object{}, "lease": leaseTime.String(), "max_attempts": forever, "concurrency": 16, "timeout": "60s"}
}

// configure writes the server's configuration, with pull workers and webhooks if this
// millstream knows them.
func (s *server) configure(ctx context.Context, upstream string) (pulls, hooks bool, err error) {
	c := object{"drain": "5s", "kinds": kinds(upstream)}
	if err := s.write(c); err != nil {
		return false, false, err
	}
	if out, err := s.check(ctx); err != nil {
		return false, false, fmt.Errorf("%s config check: %w: %s", s.binary, err, out)
	}
	if pulls, err = s.knows(ctx, c, c["kinds"].(object), kindPull, pull()); err == nil {
		hooks, err = s.knows(ctx, c, c, "webhooks", webhooks())
	}
	return pulls, hooks, err
}

// knows puts a key into a part of the configuration, and takes it out again if this millstream
// does not know it.
func (s *server) knows(ctx context.Context, c, part object, key string, value object) (bool, error) {
	part[key] = value
	if err := s.write(c); err != nil {
		return false, err
	}
	if _, err := s.check(ctx); err == nil {
		return true, nil
	}
	delete(part, key)
	return false, s.write(c)
}

func (s *server) write(config object) error {
	text, err := json.MarshalIndent(config, "", "  ") // YAML is a superset of JSON
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, configName), text, 0o600)
}

func (s *server) check(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.binary, "config", "check", "--config", filepath.Join(s.dir, configName))
	cmd.Env = environment()
	return cmd.CombinedOutput()
}
