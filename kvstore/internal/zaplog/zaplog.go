// Package zaplog lets etcd's zap loggers write to a slog handler, so that a
// process has one log. It never writes to standard error by itself, and never
// lets a fatal entry end the process.
package zaplog

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Fatal is the value that a logger of this package panics with where zap would
// have ended the process. Whoever calls into etcd recovers it.
type Fatal struct{ Text string }

// Error returns the text of the log entry.
func (f Fatal) Error() string { return f.Text }

// Level says how loud an entry of etcd is in our own log.
type Level func(zapcore.Level) slog.Level

// Quiet puts everything at debug: for clients, whose errors are returned.
func Quiet(zapcore.Level) slog.Level { return slog.LevelDebug }

// Server puts etcd's narration at debug and keeps its warnings and errors.
func Server(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// New returns a zap logger that writes to l.
func New(l *slog.Logger, level Level) *zap.Logger {
	return zap.New(&core{handler: l.Handler(), level: level},
		zap.WithFatalHook(raise{}), zap.WithPanicHook(raise{}))
}

// raise turns the end of the process into a panic that can be recovered.
type raise struct{}

// OnWrite implements zapcore.CheckWriteHook.
func (raise) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	text := e.Message
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			text += ": " + err.Error()
		}
	}
	panic(Fatal{text})
}

// expected are entries that an etcd server makes too much of here. They stay at
// debug.
var expected = map[string]bool{
	// whenever it is stopped; where it is a failure, the server also returns it
	"setting up serving from embedded etcd failed.": true,
	// also where a client asked for a user that is not there yet; it was answered
	"failed to apply request": true,
	// whenever a host that was removed tries again; it was refused
	"cannot find a user for permission check": true,
	// hosts are known by their certificates: tokens are never used
	"simple token is not cryptographically signed": true,
	// one listener serves a mesh, which needs no HTTP API of etcd
	"Running http and grpc server on single port. This is not recommended for production.": true,
}

// core implements zapcore.Core over a slog handler.
type core struct {
	handler slog.Handler
	level   Level
}

// Enabled implements zapcore.LevelEnabler.
func (c *core) Enabled(l zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), c.level(l))
}

// With implements zapcore.Core.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{handler: c.handler.WithAttrs(attrs(fields)), level: c.level}
}

// Check implements zapcore.Core.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := c.level(e.Level)
	if expected[e.Message] {
		level = slog.LevelDebug
	}
	if !c.handler.Enabled(context.Background(), level) {
		return nil
	}
	r := slog.NewRecord(e.Time, level, e.Message, 0)
	r.AddAttrs(attrs(fields)...)
	return c.handler.Handle(context.Background(), r)
}

// Sync implements zapcore.Core.
func (c *core) Sync() error { return nil }

// attrs renders zap's fields as slog attributes.
func attrs(fields []zapcore.Field) []slog.Attr {
	m := zapcore.NewMapObjectEncoder()
	out := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		f.AddTo(m)
	}
	for k, v := range m.Fields {
		out = append(out, slog.Any(k, v))
	}
	return out
}
