package broker

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// mender looks through the embedded store before the server reads it; see block.
type mender struct {
	dir   string // of the store
	log   *zap.Logger
	found int
	sound bool   // all records of the archive fit, as they are now
	data  []byte // of the block that is looked at
}

const (
	// asideDir has the blocks as they were before they were mended.
	asideDir = "damaged"
	// cleanFile says that the store was closed in order.
	cleanFile = "CLEAN"
	// mendAlways is how large the archive may be to be looked through after an orderly
	// end, too: a second or two. Of a larger one damage is found when it is read.
	mendAlways = 2 << 30
)

// mend looks through all streams. An error says that what is damaged could not be set
// aside: nothing was changed then.
func (m *mender) mend() error {
	clean := m.wasClosed()
	for _, stream := range []string{jobsStream, doneStream, keysStream, hooksStream, "KV_" + settingsBucket} {
		blocks, size, err := blocksOf(m.messages(stream))
		if err != nil {
			return err
		}
		if stream == doneStream && clean && size > mendAlways {
			continue
		}
		m.sound = m.sound || stream == doneStream
		if err := m.mendStream(stream, blocks); err != nil {
			return fmt.Errorf("stream %s: %w", stream, err)
		}
	}
	return nil
}

func (m *mender) messages(stream string) string {
	return filepath.Join(m.dir, "jetstream", "$G", "streams", stream, "msgs")
}

func blockName(n int) string { return strconv.Itoa(n) + ".blk" }

// blocksOf returns the numbers of the blocks in dir, in order, and their size.
func blocksOf(dir string) (blocks []int, size int64, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	for _, f := range files {
		name, isBlock := strings.CutSuffix(f.Name(), ".blk")
		if n, err := strconv.Atoi(name); isBlock && err == nil {
			blocks = append(blocks, n)
			if info, err := f.Info(); err == nil {
				size += info.Size()
			}
		}
	}
	slices.Sort(blocks)
	return blocks, size, err
}

func (m *mender) mendStream(stream string, blocks []int) error {
	last := uint64(0)
	used, err := m.used(stream, blocks)
	if err != nil {
		return err
	}
	for i, n := range blocks {
		b, err := m.read(stream, n)
		if err != nil {
			return err
		}
		tail := i+1 >= used
		if len(b.data) == 0 && !tail { // the server removes those itself
			m.report(stream, n, finding{what: "empty"})
			if err := m.dropIndex(stream); err != nil {
				return err
			}
		}
		var found []finding
		if found, last = b.mend(last, tail); len(found) == 0 {
			continue
		}
		if err := m.replace(stream, m.file(stream, n), b.data); err != nil {
			return err
		}
		for _, f := range found {
			m.report(stream, n, f)
		}
	}
	return nil
}

// used returns how many blocks there are but for those at the end that have nothing: a loss
// of power may leave a new block, and not what was written into it, nor the end of the one
// before.
func (m *mender) used(stream string, blocks []int) (int, error) {
	for n := len(blocks); n > 1; n-- {
		b, err := m.read(stream, blocks[n-1])
		if err != nil {
			return 0, err
		}
		if r, sane := b.at(0); sane && b.fits(r) {
			return n, nil
		}
	}
	return 1, nil
}

func (m *mender) file(stream string, n int) string {
	return filepath.Join(m.messages(stream), blockName(n))
}

func (m *mender) read(stream string, n int) (*block, error) {
	var err error
	m.data, err = readInto(m.data, m.file(stream, n))
	return newBlock(stream, n, m.data), err
}

func (m *mender) report(stream string, n int, f finding) {
	m.found++
	m.log.Error("damage in the store", zap.String("message", f.what), zap.String("subject", f.subject), zap.String("stream", stream),
		zap.Int("block", n), zap.Int("offset", f.at), zap.Int("bytes", f.size), zap.String("copy of the block", filepath.Join(m.dir, asideDir)))
}

// replace sets a block file aside and puts data in its place. The index goes first: it is of
// the blocks as they were, and whoever finds a mended one does not look again.
func (m *mender) replace(stream, name string, data []byte) error {
	aside := filepath.Join(m.dir, asideDir)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	was, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	copied := fmt.Sprintf("%s-%s.%s", stream, filepath.Base(name), time.Now().UTC().Format("20060102T150405.000"))
	if err := writeSynced(filepath.Join(aside, copied), was); err != nil {
		return err
	}
	next := name + ".new" // no name that the server reads
	if err := writeSynced(next, data); err != nil {
		return err
	}
	if err := m.dropIndex(stream); err != nil {
		return err
	}
	return os.Rename(next, name)
}

func (m *mender) dropIndex(stream string) error {
	return remove(filepath.Join(m.messages(stream), "index.db"))
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// closed notes that the server ended in order, and with which index of the archive:
// without it, it would read the blocks, and cut.
func (m *mender) closed() error {
	sum, err := m.index()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir, cleanFile), []byte(sum), 0o600)
}

// wasClosed reports whether closed was called since it was asked last.
func (m *mender) wasClosed() bool {
	name := filepath.Join(m.dir, cleanFile)
	noted, err := os.ReadFile(name)
	if err != nil || remove(name) != nil {
		return false
	}
	sum, err := m.index()
	return err == nil && sum == string(noted)
}

func (m *mender) index() (sum string, err error) {
	data, err := os.ReadFile(filepath.Join(m.messages(doneStream), "index.db"))
	return fmt.Sprintf("%08x\n", crc32.Checksum(data, castagnoli)), err
}
