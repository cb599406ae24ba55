package e2e

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// growth is how much memory a large input and its result may take, however large they are; half
// of it an input alone, or what passes through.
const growth = 128 << 20

// noise returns n bytes that nothing compresses, the same each time.
func noise(n int64) io.Reader {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err)
	}
	zeros := io.LimitReader(zero{}, n)
	return cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, 16)), R: zeros}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func sumOf(t *testing.T, r io.Reader) string {
	t.Helper()
	sum := sha256.New()
	_, err := io.Copy(sum, r)
	require.NoError(t, err)
	return hex.EncodeToString(sum.Sum(nil))
}

// stream sends a body that is made while it is sent, and returns the answer's.
func (c client) stream(method, path string, body io.Reader, headers ...string) *http.Response {
	c.t.Helper()
	req, err := http.NewRequest(method, c.base+path, body)
	require.NoError(c.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// submitLarge submits so many bytes of noise.
func (c client) submitLarge(path string, size int64) (j jobState) {
	c.t.Helper()
	resp := c.stream("POST", path, noise(size), "Content-Type", "application/octet-stream")
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return c.accepted(answer{resp.StatusCode, resp.Header, b})
}

// A large input goes in, outlives the server before anybody has worked on it, and is read by
// a command and by a pull worker; and a large result goes out: whole, in ranges, by its
// checksum. None of it is held in memory, and all of it leaves the disk with its jobs.
func TestLargePayloads(t *testing.T) {
	t.Parallel()
	size := int64(256 << 20)
	if *soak {
		size = 1 << 30
	}
	want := sumOf(t, noise(size))
	s := start(t, object{"max_store": "8GiB", "kinds": object{
		"sum":    object{"exec": object{"command": []string{"sha256sum"}}, "max_input": "4GiB", "timeout": "5m"},
		"copy":   object{"exec": object{"command": []string{"cat"}, "stdout": "result"}, "max_input": "4GiB", "timeout": "5m"},
		"pulled": object{"pull": object{}, "max_input": "4GiB"},
	}})

	before := s.peak()
	j := s.submitLarge("/v1/kinds/sum/jobs", size)
	s.until(j.ID, "succeeded")
	require.Equal(t, want, strings.Fields(string(s.result(j.ID).Body))[0])
	require.Less(t, s.peak()-before, int64(growth/2), "of an input")
	s.erase(j.ID)

	j = s.submitLarge("/v1/kinds/copy/jobs?delay=1s", size)
	s.kill()
	s.boot()
	before = s.peak()
	s.until(j.ID, "succeeded")
	path := "/v1/jobs/" + j.ID + "/result"
	whole := s.stream("GET", path, nil)
	require.Equal(t, `"`+want+`"`, whole.Header.Get("ETag"))
	require.Equal(t, want, sumOf(t, whole.Body))
	require.Less(t, s.peak()-before, int64(growth), "of an input and a result")
	part := s.stream("GET", path, nil, "Range", "bytes=-1000000")
	end, err := io.ReadAll(part.Body)
	require.NoError(t, err)
	all := noise(size)
	_, err = io.CopyN(io.Discard, all, size-1_000_000)
	require.NoError(t, err)
	must, err := io.ReadAll(all)
	require.NoError(t, err)
	require.True(t, string(must) == string(end))

	retried := s.accepted(s.ask("POST", "/v1/jobs/"+j.ID+"/retry", nil))
	s.erase(j.ID)
	s.until(retried.ID, "succeeded")
	require.Equal(t, want, sumOf(t, s.stream("GET", "/v1/jobs/"+retried.ID+"/result", nil).Body))
	s.erase(retried.ID)

	worker := exec.Command(binary, "worker", "--server", s.base, "--kind", "pulled", "--", "sha256sum")
	worker.SysProcAttr = withUs
	require.NoError(t, worker.Start())
	t.Cleanup(func() { _ = worker.Process.Kill(); _ = worker.Wait() })
	j = s.submitLarge("/v1/kinds/pulled/jobs", size)
	s.until(j.ID, "succeeded")
	require.Equal(t, want, strings.Fields(string(s.result(j.ID).Body))[0])
	s.erase(j.ID)

	eventually(t, "the disk is empty again", func() bool { return diskOf(t, s.data()) < size/2 })
}

func (c client) erase(id string) {
	c.t.Helper()
	require.Equal(c.t, 204, c.ask("DELETE", "/v1/jobs/"+id, nil).Status)
}

// diskOf returns how many bytes the files below dir have.
func diskOf(t *testing.T, dir string) (n int64) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // files go while we look
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
