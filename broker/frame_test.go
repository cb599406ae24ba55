package broker

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

func randomFrame(t *rapid.T) *frame {
	m := &frame{
		ID: job.NewID(), Kind: "k", Owner: rapid.String().Draw(t, "owner"), Epoch: rapid.Uint64().Draw(t, "epoch"),
		Lease: rapid.Uint64().Draw(t, "lease"), Writer: "w.1", First: rapid.Uint64Range(1, 1<<60).Draw(t, "first"),
		Attachment: rapid.SliceOf(rapid.Byte()).Draw(t, "attachment"),
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "records") {
		data, _ := job.Data(rapid.String().Draw(t, "data"))
		m.Records = append(m.Records, job.Record{Seq: m.First + uint64(i), Type: job.Output, Attempt: 1, Time: time.UnixMilli(1).UTC(), Data: data})
	}
	return m
}

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := randomFrame(t)
		got, err := decode(subjectOf(want.Kind, want.ID), want.encode())
		require.NoError(t, err)
		require.Equal(t, len(want.Attachment), len(got.Attachment))
		if len(want.Attachment) == 0 {
			want.Attachment, got.Attachment = nil, nil
		}
		require.Equal(t, want, got)
	})
}

// Any one flipped bit, any cut, any other job's subject: damage is always told.
func TestDamageIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := randomFrame(t)
		subject, good := subjectOf(m.Kind, m.ID), m.encode()
		bit := rapid.IntRange(0, len(good)*8-1).Draw(t, "bit")
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := decode(subject, bad)
		require.ErrorIs(t, err, errDamaged)
		_, err = decode(subject, good[:rapid.IntRange(0, len(good)-1).Draw(t, "cut")])
		require.ErrorIs(t, err, errDamaged)
		_, err = decode(subjectOf(m.Kind, job.NewID()), good)
		require.ErrorIs(t, err, errDamaged)

		a := archive{Job: job.Job{ID: m.ID, Kind: "k"}, pack: pack([]stored{{subject, 7, good}})}
		b := a.encode()
		back, err := decodeArchive(string(m.ID), b)
		require.NoError(t, err)
		messages, err := unpack(subject, back.pack)
		require.NoError(t, err)
		require.Equal(t, []stored{{subject, 7, good}}, messages)
		bit = rapid.IntRange(0, len(b)*8-1).Draw(t, "archive bit")
		b[bit/8] ^= 1 << (bit % 8)
		_, err = decodeArchive(string(m.ID), b)
		require.ErrorIs(t, err, errDamaged)
	})
}

func FuzzDecode(f *testing.F) {
	const id = job.ID("job_01k3z9a1b2c3d4e5f6g7h8j9k0")
	subject := subjectOf("k", id)
	m := frame{ID: id, Kind: "k", Writer: "w", First: 1, Attachment: []byte("in")}
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > len(magic)+8 { // what a checksum keeps out is let in
			copy(b, magic)
			sum := checksum(id, b)
			copy(b[len(magic):], sum[:])
		}
		if m, err := decode(subject, b); err == nil && len(m.Attachment) > len(b) {
			t.Fatalf("%q has an attachment of %d bytes", b, len(m.Attachment))
		}
		_, _ = decodeArchive(string(id), b)
		_, _ = unpack(subject, b)
	})
}
