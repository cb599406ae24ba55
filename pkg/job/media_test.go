package job_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func TestMediaTypes(t *testing.T) {
	for s, want := range map[string]struct{ valid, json bool }{
		"application/json":                      {true, true},
		"Application/JSON; charset=utf-8":       {true, true},
		"application/vnd.x+json; a=\"b c\"":     {true, true},
		"application/json; charset":             {true, false}, // a parser that wants to be sure is not
		"text/html; charset":                    {true, false},
		"text/" + strings.Repeat("x", 250):      {true, false},
		"text/" + strings.Repeat("x", 251):      {false, false},
		"":                                      {false, false},
		"json":                                  {false, false},
		"text/":                                 {false, false},
		"text/plain/x":                          {false, false},
		"text/plain\r\nSet-Cookie: a=b":         {false, false},
		"text/plain; a=\"\x00\"":                {false, false},
		"text/plain; a=é":                       {false, false},
		"application/x-www-form-urlencoded":     {true, false},
		"application/x-ndjson; charset=\"utf\"": {true, false},
	} {
		require.Equal(t, want.valid, job.ValidMediaType(s), "%q", s)
		require.Equal(t, want.json, job.IsJSON(s), "%q", s)
	}
}
