package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millstream/millstream/pkg/job"
)

// Messages of the log are asked for in two ways. The stream's leader answers at
// askLeader, in JSON: what it does not find is not there. At askAny whatever server has
// the stream answers, if the stream's configuration allows it, with the bytes as they
// are: a fifth of the work, and no verdict.
const (
	leaderAPI = "$JS.API.STREAM.MSG.GET."
	askLeader = leaderAPI + jobsStream
	askAny    = "$JS.API.DIRECT.GET." + jobsStream
)

// allowDirect has our own server answer directly, also of a stream from before it did; of
// deliveries too, for it finds no less than the leader, which it is. It does so in the one
// connection that also publishes, and costs that some latency under many reads. A stream that
// is somebody else's, or that cannot be changed now, is read more slowly.
func (s *jetStream) allowDirect(ctx context.Context) {
	for _, stream := range []*jetstream.Stream{&s.jobs, &s.hooks} {
		if c := (*stream).CachedInfo().Config; !c.AllowDirect && s.embedded != nil {
			c.AllowDirect = true
			if changed, err := s.js.UpdateStream(ctx, c); err == nil {
				*stream = changed
			}
		}
	}
	s.direct = s.jobs.CachedInfo().Config.AllowDirect
}

// question names a message of a stream.
type question struct {
	Position uint64 `json:"seq,omitempty"`
	Subject  string `json:"next_by_subj,omitempty"` // the first one of it from Position on
	Last     string `json:"last_by_subj,omitempty"` // the last one of this subject
}

func (s *jetStream) get(ctx context.Context, position uint64) (stored, error) {
	return s.ask(ctx, jobsStream, question{Position: position})
}

func (s *jetStream) next(ctx context.Context, subject string, position uint64) (stored, error) {
	return s.ask(ctx, jobsStream, question{Position: position, Subject: subject})
}

// last returns the last message of a subject. On servers that are somebody else's the leader
// is asked, whatever the stream allows: another one may lag behind.
func (s *jetStream) last(ctx context.Context, stream jetstream.Stream, subject string) (stored, error) {
	if s.embedded != nil {
		return s.read(stream.GetLastMsgForSubject(ctx, subject))
	}
	return s.ask(ctx, stream.CachedInfo().Config.Name, question{Last: subject})
}

// ask asks the leader of a stream.
func (s *jetStream) ask(ctx context.Context, stream string, q question) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	m, err := s.nc.RequestWithContext(ctx, leaderAPI+stream, job.MustJSON(q))
	if err != nil {
		return stored{}, unavailable(err)
	}
	return leaderSays(m)
}

func leaderSays(m *nats.Msg) (stored, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string `json:"subject"`
			Position uint64 `json:"seq"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil:
		return stored{}, unavailable(err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return stored{}, errNone
	case answer.Error != nil:
		return stored{}, unavailable(answer.Error)
	case answer.Message == nil:
		return stored{}, unavailable(errors.New("an answer without a message"))
	}
	return stored{answer.Message.Subject, answer.Message.Position, answer.Message.Data}, nil
}

// anySays reads the answer to askAny; what says that there is no message has no header
// of these.
func anySays(m *nats.Msg) (stored, error) {
	position, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	return stored{m.Header.Get(jetstream.SubjectHeader), position, m.Data}, err
}

// several asks for all messages before it waits for the first answer. One question for
// a whole run of them would not be faster: the server then counts what the stream has
// behind it, and who else's messages lie between is sent or searched through as well.
func (s *jetStream) several(ctx context.Context, positions []uint64) []stored {
	found := make([]stored, len(positions))
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	ask, says := askLeader, leaderSays
	if s.direct {
		ask, says = askAny, anySays
	}
	var wg sync.WaitGroup
	for i, p := range positions {
		wg.Go(func() {
			m, err := s.nc.RequestWithContext(ctx, ask, job.MustJSON(question{Position: p}))
			if err == nil {
				found[i], _ = says(m)
			}
		})
	}
	wg.Wait()
	return found
}
