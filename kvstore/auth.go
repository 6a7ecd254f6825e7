package kvstore

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plexusmesh/plexus/kvstore/schema"
)

// Names that etcd gives meaning to.
const (
	rootUser = "root"
	rootRole = "root"
)

// EnableAuth makes etcd ask every client for a user, which is the common name
// of its certificate. admin, the common name of the server's own certificate,
// becomes a user who may do everything. It changes nothing that is right
// already, so every start of a server may call it.
func (c *Client) EnableAuth(ctx context.Context, admin string) error {
	if on, err := c.authEnabled(ctx); err != nil || on {
		return err
	}
	// etcd insists on a user of that name. It has no password, so only a
	// certificate issued to "root" could be it, and the CA issues none.
	for _, user := range []string{rootUser, admin} {
		if err := c.EnsureAdmin(ctx, user); err != nil {
			return err
		}
	}
	return c.do(ctx, request{"enable", "authentication", true}, func(ctx context.Context) error {
		_, err := c.etcd.AuthEnable(ctx)
		return err
	})
}

// authEnabled asks whether clients need a user.
func (c *Client) authEnabled(ctx context.Context) (on bool, err error) {
	err = c.do(ctx, request{"read", "authentication status", true}, func(ctx context.Context) error {
		resp, err := c.etcd.AuthStatus(ctx)
		if err == nil {
			on = resp.Enabled
		}
		return err
	})
	return on, err
}

// EnsureAdmin makes name a user who may do everything: another server.
func (c *Client) EnsureAdmin(ctx context.Context, name string) error {
	if err := c.ensureRole(ctx, rootRole); err != nil {
		return err
	}
	return c.ensureUser(ctx, name, rootRole)
}

// EnsureUser makes name a user who may do exactly what grants say, and takes
// from it what it could do beyond that. Its certificate alone proves who it
// is; it has no password.
func (c *Client) EnsureUser(ctx context.Context, name string, grants []schema.Grant) error {
	if name == rootUser {
		return fmt.Errorf("create etcd user %q: the name is etcd's own", name)
	}
	if err := c.ensureRole(ctx, name); err != nil {
		return err
	}
	if err := c.ensureGrants(ctx, name, grants); err != nil {
		return err
	}
	return c.ensureUser(ctx, name, name)
}

// DeleteUser removes a user made by EnsureUser or EnsureAdmin, with its role.
// From then on etcd refuses its requests. Removing one that does not exist is
// no error.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	err := c.do(ctx, request{"delete user", name, true}, func(ctx context.Context) error {
		_, err := c.etcd.UserDelete(ctx, name)
		return unless(err, rpctypes.ErrUserNotFound)
	})
	if err != nil {
		return err
	}
	return c.do(ctx, request{"delete role", name, true}, func(ctx context.Context) error {
		_, err := c.etcd.RoleDelete(ctx, name)
		return unless(err, rpctypes.ErrRoleNotFound)
	})
}

// Users lists the users, sorted.
func (c *Client) Users(ctx context.Context) (names []string, err error) {
	err = c.do(ctx, request{"list users", "", true}, func(ctx context.Context) error {
		resp, err := c.etcd.UserList(ctx)
		if err == nil {
			names = slices.Sorted(slices.Values(resp.Users))
		}
		return err
	})
	return names, err
}

func (c *Client) ensureRole(ctx context.Context, role string) error {
	return c.do(ctx, request{"create role", role, true}, func(ctx context.Context) error {
		if _, err := c.etcd.RoleGet(ctx, role); !same(err, rpctypes.ErrRoleNotFound) {
			return err
		}
		_, err := c.etcd.RoleAdd(ctx, role)
		return unless(err, rpctypes.ErrRoleAlreadyExist)
	})
}

// ensureUser makes a user with that role and no other. What is right is only
// read: every change of users makes etcd turn away requests in flight.
func (c *Client) ensureUser(ctx context.Context, name, role string) error {
	return c.do(ctx, request{"create user", name, true}, func(ctx context.Context) error {
		user, err := c.etcd.UserGet(ctx, name)
		if same(err, rpctypes.ErrUserNotFound) {
			user = &clientv3.AuthUserGetResponse{}
			_, err = c.etcd.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
			err = unless(err, rpctypes.ErrUserAlreadyExist)
		}
		if err != nil {
			return err
		}
		for _, old := range user.Roles {
			if old == role {
				continue
			}
			if _, err := c.etcd.UserRevokeRole(ctx, name, old); err != nil {
				return err
			}
		}
		if slices.Contains(user.Roles, role) {
			return nil
		}
		_, err = c.etcd.UserGrantRole(ctx, name, role)
		return err
	})
}

// permission is a grant as etcd keeps it.
type permission struct {
	key, end string
	access   authpb.Permission_Type
}

func permissionOf(g schema.Grant) permission {
	p := permission{key: g.Key}
	if _, end := span(g.Key); end != "" {
		p.end = end
	}
	switch {
	case g.Read && g.Write:
		p.access = authpb.READWRITE
	case g.Write:
		p.access = authpb.WRITE
	default:
		p.access = authpb.READ
	}
	return p
}

// ensureGrants makes the permissions of a role those of grants. Rights are
// taken away before others are given.
func (c *Client) ensureGrants(ctx context.Context, role string, grants []schema.Grant) error {
	return c.do(ctx, request{"grant rights of", role, true}, func(ctx context.Context) error {
		resp, err := c.etcd.RoleGet(ctx, role)
		if err != nil {
			return err
		}
		have := make(map[permission]bool, len(resp.Perm))
		for _, p := range resp.Perm {
			have[permission{string(p.Key), string(p.RangeEnd), p.PermType}] = true
		}
		want := make(map[permission]bool, len(grants))
		for _, g := range grants {
			want[permissionOf(g)] = true
		}
		return c.changeGrants(ctx, role, have, want)
	})
}

func (c *Client) changeGrants(ctx context.Context, role string, have, want map[permission]bool) error {
	for p := range have {
		if want[p] {
			continue
		}
		_, err := c.etcd.RoleRevokePermission(ctx, role, p.key, p.end)
		if err := unless(err, rpctypes.ErrPermissionNotGranted); err != nil {
			return err
		}
	}
	for p := range want {
		if have[p] {
			continue
		}
		if _, err := c.etcd.RoleGrantPermission(ctx, role, p.key, p.end, clientv3.PermissionType(p.access)); err != nil {
			return err
		}
	}
	return nil
}

// unless forgives one error.
func unless(err, forgiven error) error {
	if same(err, forgiven) {
		return nil
	}
	return err
}
