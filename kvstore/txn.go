package kvstore

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Cond is a condition of [Client.Commit].
type Cond struct{ cmp clientv3.Cmp }

// Absent holds while key does not exist.
func Absent(key string) Cond {
	return Cond{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
}

// Present holds while key exists.
func Present(key string) Cond {
	return Cond{clientv3.Compare(clientv3.CreateRevision(key), ">", 0)}
}

// Unchanged holds while nobody has written key since revision, which is
// KV.ModRevision; 0 means that the key did not exist.
func Unchanged(key string, revision int64) Cond {
	return Cond{clientv3.Compare(clientv3.ModRevision(key), "=", revision)}
}

// HasValue holds while key has that value.
func HasValue(key string, value []byte) Cond {
	return Cond{clientv3.Compare(clientv3.Value(key), "=", string(value))}
}

// Op is an effect of [Client.Commit].
type Op struct{ op clientv3.Op }

// OpPut writes a key, bound to a lease unless lease is 0.
func OpPut(key string, value []byte, lease int64) Op {
	return Op{clientv3.OpPut(key, string(value), clientv3.WithLease(clientv3.LeaseID(lease)))}
}

// OpDelete removes a key, or, given a prefix, everything under it.
func OpDelete(prefix string) Op {
	if _, end := span(prefix); end != "" {
		return Op{clientv3.OpDelete(prefix, clientv3.WithRange(end))}
	}
	return Op{clientv3.OpDelete(prefix)}
}

// Commit applies all ops at once if all conditions hold, and reports whether
// they did. It is never repeated when the outcome is unknown: after
// [ErrUnavailable] the caller reads what came of it. etcd takes at most 128
// conditions and 128 ops.
func (c *Client) Commit(ctx context.Context, conds []Cond, ops []Op) (ok bool, err error) {
	cmps := make([]clientv3.Cmp, len(conds))
	for i, cond := range conds {
		cmps[i] = cond.cmp
	}
	then := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		then[i] = op.op
	}
	err = c.do(ctx, request{"commit", firstKey(ops), false}, func(ctx context.Context) error {
		resp, err := c.etcd.Txn(ctx).If(cmps...).Then(then...).Commit()
		if err == nil {
			ok = resp.Succeeded
		}
		return err
	})
	return ok, err
}

// firstKey names a transaction in errors.
func firstKey(ops []Op) string {
	if len(ops) == 0 {
		return ""
	}
	return string(ops[0].op.KeyBytes())
}

func kvOf(kv *mvccpb.KeyValue) KV {
	return KV{
		Key: string(kv.Key), Value: kv.Value, Lease: kv.Lease,
		ModRevision: kv.ModRevision, CreateRevision: kv.CreateRevision,
	}
}
