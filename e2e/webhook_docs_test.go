package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// pythonBlock is the Python in docs/webhooks.md.
var pythonBlock = regexp.MustCompile("(?s)```python\n(.*?)```")

// pythonVerifier says what the document's code says of deliveries: as they came, with another
// body, with another secret, and as they would be ten minutes later.
const pythonVerifier = `
import json, sys
secret, other, got = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))
for d in got:
    h, body = d["headers"], d["body"].encode()
    now = time.time()
    said = [verified(secret, h, body), verified(secret, h, body + b" "), verified(other, h, body)]
    time.time = lambda: now + 600
    said.append(verified(secret, h, body))
    time.time = lambda: now
    print(*said)
`

// Who verifies as docs/webhooks.md shows for Python believes what is sent, while it is fresh,
// and nothing else; also while the secret is rotated.
func TestVerifyInPython(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "docs", "webhooks.md"))
	require.NoError(t, err)
	block := pythonBlock.FindSubmatch(text)
	require.NotNil(t, block)
	const fresh, other = "whsec_MTExMTExMTExMTExMTExMTExMTExMTEx", "whsec_MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy"
	config := webhookConfig()
	config["webhooks"] = object{"secrets": []string{fresh, webhookSecret}, "allow": []string{"127.0.0.0/8"}}
	s, r := start(t, config), newReceiver(t)
	r.listen()
	id := s.submitWithWebhook(r.url())
	s.delivery(id, "delivered")
	file := filepath.Join(t.TempDir(), "got.json")
	in, err := json.Marshal(r.all())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, in, 0o600))
	for _, secret := range []string{fresh, webhookSecret} {
		out, err := exec.Command("python3", "-c", string(block[1])+pythonVerifier, secret, other, file).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, "True False False False\n", string(out))
	}
	require.Equal(t, "job.succeeded\n", r.verified(fresh))
	require.Equal(t, "job.succeeded\n", r.verified(webhookSecret))
}
