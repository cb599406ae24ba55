package job

import (
	"errors"
	"mime"
	"strings"
)

// MaxMediaType is the longest media type of an input or a result, in bytes: RFC 6838,
// 4.2, with some parameters.
const MaxMediaType = 255

// ValidMediaType reports whether s may be the media type of an input or a result. It
// goes into headers and every copy of the job. With parameters that are not quite
// right others get on somehow.
func ValidMediaType(s string) bool {
	t, _, err := mime.ParseMediaType(s)
	ok := err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)
	return ok && strings.Contains(t, "/") && len(s) <= MaxMediaType && !strings.ContainsFunc(s, unprintable)
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }

// IsJSON reports whether the media type is JSON, or a format on top of it.
func IsJSON(mediaType string) bool {
	t, _, err := mime.ParseMediaType(mediaType)
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}
