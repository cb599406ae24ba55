package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// reports is the API that docs/routes.md shows.
func reports(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Backend", "as400")
	if strings.Contains(string(body), "13") {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "<Fault>no such month</Fault>\n")
		return
	}
	_, _ = io.WriteString(w, "<Total>1,204.50</Total>\n")
}

// The page on routes shows what is.
func TestRoutesDocument(t *testing.T) {
	t.Parallel()
	const path = "../docs/routes.md"
	up := httptest.NewServer(http.HandlerFunc(reports))
	t.Cleanup(up.Close)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	s := session{server: launch(t, binary, "serve", "--route", "/legacy/*="+up.URL), real: map[string]string{}}
	got := consoles.ReplaceAllStringFunc(string(text), s.run)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
}
