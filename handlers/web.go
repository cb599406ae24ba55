package handlers

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"

	"github.com/gin-gonic/gin"
)

// web has the files for web pages.
//
//go:embed web/client.js web/client.d.ts
var web embed.FS

var webTypes = map[string]string{".js": "text/javascript; charset=utf-8", ".ts": "text/plain; charset=utf-8"}

// webFile answers GET /client.js and its types: a helper for pages, as docs/polling.md tells.
func webFile(c *gin.Context) error {
	name := path.Base(c.FullPath())
	b, err := web.ReadFile("web/" + name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	c.Header("ETag", tag)
	c.Header("Cache-Control", "no-cache") // asked for again with each release, and not sent again
	if c.GetHeader("If-None-Match") == tag {
		return sendNothing(c, http.StatusNotModified)
	}
	return send(c, http.StatusOK, webTypes[path.Ext(name)], b)
}
