package standardwebhooks_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/millstream/millstream/pkg/standardwebhooks"
)

// A receiver verifies the body as it came, then reads it, and answers 2xx once it has taken
// note of it: until then it is sent again.
func ExampleKeys_Verify() {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	keys, err := standardwebhooks.ParseKeys(secret)
	if err != nil {
		panic(err)
	}
	seen := map[string]bool{} // in earnest: where you keep what you have done
	receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 512<<10))
		if err != nil || keys.Verify(r.Header, body) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if id := r.Header.Get(standardwebhooks.HeaderID); !seen[id] {
			seen[id] = true
			var event struct{ Type, Job string }
			_ = json.Unmarshal(body, &event)
			fmt.Println(event.Type, event.Job)
		}
		w.WriteHeader(http.StatusNoContent)
	})

	body := `{"id":"4-7-1","type":"job.succeeded","job":"job_1"}`
	for range 2 { // the second is passed over
		r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
		keys.SetHeader(r.Header, "job_1_4-7-1", time.Now(), []byte(body))
		receiver.ServeHTTP(httptest.NewRecorder(), r)
	}
	// Output: job.succeeded job_1
}
