package broker

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// goldenID is the job of the heads in testdata: bytes that were stored before heads were
// read by hand, one with all that there may be, one of a usual job.
const goldenID = "job_01m8h7hda7fn282tgze965ady9"

func golden(t testing.TB, name string) []byte {
	b, err := os.ReadFile(filepath.Join("testdata", name+".head"))
	require.NoError(t, err)
	return b
}

// headOf reads a head, and reports whether that was done by hand.
func headOf(name string, b []byte) (h head, byHand bool) {
	r := headReader{texts: map[string]string{}}
	r.read(stored{name, 7, b}, &h)
	text, _, err := cutArchive(name, b)
	other := head{name: name}
	return h, err == nil && r.known(text, &other)
}

// wantHead is what a start needs of a whole archive.
func wantHead(t require.TestingT, name string, b []byte) head {
	a, err := decodeArchive(name, b)
	require.NoError(t, err)
	a.Job.Progress, a.Job.Output, a.Job.Result = nil, nil, pieced(a.Job.Result)
	return head{name: name, position: 7, job: a.Job, parts: len(a.Parts)}
}

func TestGoldenHeads(t *testing.T) {
	for _, name := range []string{"full", "plain"} {
		b := golden(t, name)
		h, byHand := headOf(goldenID, b)
		require.True(t, byHand, name)
		require.Equal(t, wantHead(t, goldenID, b), h)
	}
	full, _ := headOf(goldenID, golden(t, "full"))
	require.Equal(t, []string{"a", "b,\"]", "ü"}, full.job.Tags)
	require.Equal(t, 2, full.parts)
	require.Equal(t, time.Date(2026, 11, 28, 14, 4, 25, 799e6, time.UTC), full.job.ExpiresAt)
}

// One bit that is not as it was, wherever it is, a cut anywhere, and another name.
func TestDamagedHeadIsTold(t *testing.T) {
	for _, name := range []string{"full", "plain"} {
		good := golden(t, name)
		for bit := range len(good) * 8 {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			h, _ := headOf(goldenID, bad)
			require.ErrorIs(t, h.err, errDamaged, "bit %d", bit)
		}
		for n := range good {
			h, _ := headOf(goldenID, good[:n])
			require.ErrorIs(t, h.err, errDamaged, "%d bytes", n)
		}
		h, _ := headOf(string(job.NewID()), good)
		require.ErrorIs(t, h.err, errDamaged)
	}
}

// The names are those of the fields: a new one has to be told how it is read.
func TestMembersOfHeads(t *testing.T) {
	require.Equal(t, namesOf(reflect.TypeFor[job.Job]()), jobMembers)
	require.Equal(t, namesOf(reflect.TypeFor[job.Once]()), onceMembers)
	require.Equal(t, namesOf(reflect.TypeFor[job.Cursor]()), cursorMembers)
	skipped := []string{"progress", "output"}
	for _, name := range jobMembers {
		require.Equal(t, memberOf(&job.Job{}, name) == nil, slices.Contains(skipped, name), name)
	}
}

func namesOf(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || f.Anonymous:
		case name == "":
			names = append(names, f.Name)
		default:
			names = append(names, name)
		}
	}
	return names
}

func randomTime(t *rapid.T, what string) (at time.Time) {
	if n := rapid.Int64Range(0, 1<<41).Draw(t, what); n > 0 {
		at = time.UnixMilli(n).UTC()
	}
	return at
}

func randomJob(t *rapid.T) job.Job {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", `"`, `\`, `a"},{`, "ü", "\xff", "<&>", "\u2028", "wordcount"}))
	j := job.Job{
		ID: job.NewID(), Kind: "k", Owner: text.Draw(t, "owner"), Status: job.StatusFailed, Attempt: rapid.IntRange(0, 9).Draw(t, "attempt"), MaxAttempts: 1 << 40,
		Priority: job.Priority(rapid.IntRange(-1, 1).Draw(t, "priority")), Key: text.Draw(t, "key"), Batch: text.Draw(t, "batch"), Tags: rapid.SliceOf(text).Draw(t, "tags"),
		CreatedAt: randomTime(t, "created"), RunAt: randomTime(t, "run"), StartedAt: randomTime(t, "started"), FinishedAt: randomTime(t, "finished"),
		ExpiresAt: randomTime(t, "expires"), CancelRequestedAt: randomTime(t, "cancel"), Erased: rapid.Bool().Draw(t, "erased"), Finish: rapid.Uint64Range(0, 1<<62).Draw(t, "finish"),
		Cursor: job.Cursor{Seq: 1 << 50, Place: job.Place{Epoch: rapid.Uint64Range(0, 1<<62).Draw(t, "epoch")}},
	}
	for _, data := range []*[]byte{(*[]byte)(&j.Progress), (*[]byte)(&j.Output)} {
		if rapid.Bool().Draw(t, "data") {
			*data = job.MustData(map[string]any{text.Draw(t, "name"): []any{text.Draw(t, "value"), 1.5, nil, map[string]any{}}})
		}
	}
	if rapid.Bool().Draw(t, "once") {
		j.Once = &job.Once{Record: text.Draw(t, "record"), Fingerprint: text.Draw(t, "fingerprint")}
	}
	return j
}

// What is written is read by hand, and as encoding/json reads it.
func TestHeadRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := archive{Job: randomJob(t), pack: []byte("pack")}
		for n := range rapid.IntRange(0, 3).Draw(t, "parts") {
			a.Parts = append(a.Parts, part{uint64(n)})
		}
		name, b := string(a.Job.ID), a.encode()
		h, byHand := headOf(name, b)
		require.True(t, byHand)
		require.Equal(t, wantHead(t, name, b), h)
	})
}

// What is not as it is written today is read all the same: by encoding/json.
func TestHeadOfAnotherForm(t *testing.T) {
	for _, text := range []string{
		`{"job":{"id":"` + goldenID + `","kind":"k","colour":"red","status":"failed"}}`,
		`{"job":{"kind":"k","id":"` + goldenID + `"}}`,
		`{"job": {"id":"` + goldenID + `"}}`,
		`{"parts":[{"position":1}],"job":{"id":"` + goldenID + `","tags":[]}}`,
		`{"job":{"id":"` + goldenID + `","kind":null,"attempt":-1}}`,
		`{"job":{"id":"\u006aob_01m8h7hda7fn282tgze965ady9"}}`,
		`{"live":{},"job":{"id":"job_other"}}`,
	} {
		b := sealed(text, "pack")
		h, byHand := headOf(goldenID, b)
		require.False(t, byHand, text)
		require.Equal(t, wantHead(t, goldenID, b), h, text)
	}
	h, _ := headOf(goldenID, sealed(`{"job":{"id":`, ""))
	require.ErrorIs(t, h.err, errDamaged)
}

// sealed is what is stored of a head with this text.
func sealed(text, pack string) []byte {
	b := (&archive{}).encode()
	b = append(b[:len(archiveMagic)+9], (strconv.Itoa(len(text)) + "\n" + text + pack)...)
	sum := archiveSum(goldenID, b)
	copy(b[len(archiveMagic):], sum[:])
	return b
}

// Whatever stands in a head, it is read as encoding/json would.
func FuzzHead(f *testing.F) {
	for _, name := range []string{"full", "plain"} {
		text, _, err := cutArchive(goldenID, golden(f, name))
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		b := sealed(text, "pack")
		h, byHand := headOf(goldenID, b)
		if _, err := decodeArchive(goldenID, b); err == nil {
			require.Equal(t, wantHead(t, goldenID, b), h)
		} else if !byHand {
			require.ErrorIs(t, h.err, errDamaged)
		}
	})
}
