package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Handler runs one attempt. Its context ends with the task's; an error fails the
// attempt.
type Handler func(ctx context.Context, t *Task) error

// Work runs handler for the jobs of all kinds on Watermill's Router until ctx
// ends, then for as long as Subscriber.Close allows. It ends by itself, with an
// error, if the store has lost what it had acknowledged: the process has to begin
// anew.
func (b *Broker) Work(ctx context.Context, finish time.Duration, handler Handler) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.sound, func() {
		if b.ctx.Err() == nil {
			cancel(context.Cause(b.sound))
		}
	})()
	if err := b.work(ctx, finish, handler); err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, errSpoiled) {
		return cause
	}
	return nil
}

func (b *Broker) work(ctx context.Context, finish time.Duration, handler Handler) error {
	// The Subscriber closes first and has the patience: whom the Router would wait
	// for then is a handler that does not return.
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Second}, logger{b.log})
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	// Outermost first: leaveError sees what Recoverer makes of a panic. No Retry
	// and no PoisonQueue here: they would hold the slot, or ack what failed.
	router.AddMiddleware(leaveError, middleware.CorrelationID, middleware.Recoverer)
	sub := b.Subscriber(finish)
	served := 0
	for kind := range b.kinds {
		if kind == job.AnyKind {
			continue
		}
		served++
		router.AddConsumerHandler(kind, Topic(kind), sub, func(m *message.Message) error {
			return handler(m.Context(), TaskOf(m))
		})
	}
	if served == 0 {
		<-ctx.Done()
		return nil
	}
	ended := make(chan struct{})
	defer close(ended)
	context.AfterFunc(ctx, func() {
		select {
		case <-router.Running(): // one that is closed before it runs never ends
		case <-ended:
		}
		_ = sub.Close() // first: the Router would stop listening to its handlers
		_ = router.Close()
	})
	if err := router.Run(context.WithoutCancel(ctx)); err != nil && ctx.Err() == nil {
		return fmt.Errorf("router: %w", err)
	}
	return nil
}

// leaveError leaves the handler's error in the task: the Router only nacks.
func leaveError(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		out, err := next(m)
		if t := TaskOf(m); t != nil {
			t.err = err
		}
		return out, err
	}
}

// logger passes Watermill's log to Zap. An attempt that failed is no error of
// ours: it is in the job.
type logger struct{ to *zap.Logger }

func fieldsOf(f watermill.LogFields) []zap.Field {
	fields := make([]zap.Field, 0, len(f))
	for k, v := range f {
		fields = append(fields, zap.Any(k, v))
	}
	return fields
}

func (l logger) Error(msg string, err error, f watermill.LogFields) {
	l.to.Debug(msg, append(fieldsOf(f), zap.Error(err))...)
}
func (l logger) Info(msg string, f watermill.LogFields)  { l.to.Debug(msg, fieldsOf(f)...) }
func (l logger) Debug(msg string, f watermill.LogFields) { l.to.Debug(msg, fieldsOf(f)...) }
func (l logger) Trace(string, watermill.LogFields)       {}
func (l logger) With(f watermill.LogFields) watermill.LoggerAdapter {
	return logger{l.to.With(fieldsOf(f)...)}
}
