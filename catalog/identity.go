package catalog

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"tidemark/internal/fault"
	"tidemark/objectstore"
)

// Identity is what archive.json says: which archive this is, and what it was made for. SystemID,
// Database and Slot state an intent: they are written before the slot is made, so that a slot that
// was made just before a crash is recognised as this archive's.
type Identity struct {
	Format   int       `json:"format"`  // FormatVersion; Create fills it
	ID       string    `json:"archive"` // UUID
	Made     time.Time `json:"made"`    // UTC, microseconds
	SystemID string    `json:"system_id"`
	Database string    `json:"database"`
	Slot     string    `json:"slot"`
}

// UUID returns the archive id's 16 bytes. They are zero only for an Identity that was never stored.
func (id Identity) UUID() [16]byte {
	u, _ := uuid.Parse(id.ID)
	return u
}

const identitySumField = `,"sha256":"`

// encodeIdentity returns the bytes of archive.json.
func encodeIdentity(id Identity) ([]byte, error) {
	b, err := marshal(id)
	if err != nil {
		return nil, err
	}
	b = b[:len(b)-1] // the closing brace
	sum := sha256.Sum256(b)
	b = append(b, identitySumField...)
	b = hex.AppendEncode(b, sum[:])
	return append(b, "\"}\n"...), nil
}

// decodeIdentity checks the checksum first, so that a flipped version is damage, not "newer".
func decodeIdentity(data []byte) (Identity, error) {
	tail := len(identitySumField) + 2*sha256.Size + len("\"}\n")
	if len(data) < tail {
		return Identity{}, damaged(identityKey, "is only %d bytes long", len(data))
	}
	body := data[:len(data)-tail]
	sum := sha256.Sum256(body)
	want := append([]byte(identitySumField), hex.EncodeToString(sum[:])+"\"}\n"...)
	if !bytes.Equal(want, data[len(body):]) {
		return Identity{}, damaged(identityKey, "its checksum does not match")
	}
	body = append(bytes.Clone(body), '}')
	var version struct{ Format int }
	if err := json.Unmarshal(body, &version); err == nil && version.Format > FormatVersion {
		return Identity{}, versionFault(identityKey, version.Format)
	}
	var id Identity
	if err := unmarshalStrict(body, &id); err != nil {
		return Identity{}, damaged(identityKey, "%v", err)
	}
	if err := id.check(); err != nil {
		return Identity{}, damaged(identityKey, "%v", err)
	}
	return id, nil
}

func (id Identity) check() error {
	if id.Format != FormatVersion {
		return errors.New("its format version is not 1")
	}
	if u, err := uuid.Parse(id.ID); err != nil || u.String() != id.ID {
		return errors.New("its archive id is not a UUID in lower case")
	}
	return nil
}

// readIdentity returns ErrNoArchive only if nothing of an archive is there either.
func readIdentity(ctx context.Context, store objectstore.Store) (Identity, error) {
	data, err := readAll(ctx, store, identityKey)
	if err == nil {
		return decodeIdentity(data)
	}
	if !errors.Is(err, objectstore.ErrNotFound) {
		return Identity{}, err
	}
	if err := noCatalog(ctx, store); err != nil {
		return Identity{}, err
	}
	return Identity{}, fault.Wrap(ErrNoArchive, fault.Usage, "`archiver run` makes an archive; check the URL if there should be one",
		"%s", store)
}

// noCatalog reports damage if there are objects of an archive although archive.json is missing.
func noCatalog(ctx context.Context, store objectstore.Store) error {
	if entry, err := firstUnder(ctx, store, catalogPrefix); err != nil || entry != "" {
		return cmp.Or(err, error(damaged(identityKey, "is missing although there is a catalog (%s)", entry)))
	}
	left, err := firstUnder(ctx, store, afterFirstEntry...)
	if err != nil || left == "" {
		return err
	}
	return lost(identityKey, left)
}

// writeIdentity creates archive.json.
func writeIdentity(ctx context.Context, store objectstore.Store, id Identity) (Identity, error) {
	id.Format = FormatVersion
	id.Made = id.Made.UTC().Truncate(time.Microsecond)
	if err := id.check(); err != nil {
		return id, fault.Wrap(err, fault.Usage, "", "can't make an archive")
	}
	data, err := encodeIdentity(id)
	if err != nil {
		return id, err
	}
	if err := noCatalogBeside(ctx, store); err != nil {
		return id, err
	}
	err = store.Put(ctx, identityKey, data)
	if errors.Is(err, objectstore.ErrExists) {
		if found, rerr := readAll(ctx, store, identityKey); rerr == nil && bytes.Equal(found, data) {
			return id, nil // the answer to our own put was lost
		}
		return id, fault.Wrap(ErrArchiveExists, fault.Usage, "choose another URL, or go on with the archive that is there", "%s", store)
	}
	return id, err
}

// noCatalogBeside refuses to make an archive over the remains of another.
func noCatalogBeside(ctx context.Context, store objectstore.Store) error {
	if _, err := store.Stat(ctx, identityKey); err == nil {
		return nil // writeIdentity finds out whose it is
	} else if !errors.Is(err, objectstore.ErrNotFound) {
		return err
	}
	return noCatalog(ctx, store)
}
