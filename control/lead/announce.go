package lead

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/plexusmesh/plexus/kvstore/schema"
)

// announce tells Cilium clusters what this mesh offers, and that each resource
// is complete.
func (l *Leader) announce(ctx context.Context) error {
	config, err := schema.EncodeClusterConfig(schema.OwnClusterConfig(l.opts.Cluster))
	if err != nil {
		return err
	}
	if err := l.ensure(ctx, schema.ClusterConfigKey(l.opts.Cluster.Name), config); err != nil {
		return err
	}
	now := schema.EncodeTime(time.Now())
	layout := schema.Layout{Cluster: l.opts.Cluster.Name}
	var errs []error
	for _, r := range schema.Resources() {
		errs = append(errs, l.ensureExists(ctx, layout.Synced(r), now))
	}
	return errors.Join(errs...)
}

// beat shows that the mesh lives.
func (l *Leader) beat(ctx context.Context) error {
	if _, err := l.opts.Store.Put(ctx, schema.HeartbeatKey, schema.EncodeTime(time.Now()), 0); err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	return nil
}

// ensure writes a key that does not have that value; a write of the same value
// would wake every reader.
func (l *Leader) ensure(ctx context.Context, key string, value []byte) error {
	kv, found, err := l.opts.Store.Get(ctx, key)
	if err == nil && (!found || !bytes.Equal(kv.Value, value)) {
		_, err = l.opts.Store.Put(ctx, key, value, 0)
	}
	return err
}

func (l *Leader) ensureExists(ctx context.Context, key string, value []byte) error {
	_, found, err := l.opts.Store.Get(ctx, key)
	if err == nil && !found {
		_, err = l.opts.Store.Put(ctx, key, value, 0)
	}
	return err
}
