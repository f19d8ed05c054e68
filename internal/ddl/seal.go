package ddl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// RefusedPrefix is the prefix under which a message is archived that claims to be a schema change and is none: any
// role may write logical messages.
const RefusedPrefix = "tidemark-refused"

// keyView holds the key that the event triggers authenticate messages with.
const keyView = Schema + ".ddl_key"

// macSize is the length of a message's authentication in hex.
const macSize = 2 * sha256.Size

// Seal makes a message's content of its JSON, as tidemark.ddl_emit does.
func Seal(key, body []byte) []byte {
	m := newMAC(key)
	m.Write(body)
	content := append([]byte(ContentPrefix), m.hex()...)
	return append(append(content, ':'), body...)
}

// mac is SHA-256(key, SHA-256(key, message)).
type mac struct {
	hash.Hash
	key []byte
}

func newMAC(key []byte) mac {
	m := mac{Hash: sha256.New(), key: key}
	m.Write(key)
	return m
}

func (m mac) hex() []byte {
	sum := sha256.Sum256(m.Sum(slices.Clone(m.key)))
	return []byte(hex.EncodeToString(sum[:]))
}

// unseal cuts a message's content into its authentication and its JSON.
func unseal(content []byte) (sealed, body []byte, err error) {
	rest, ok := bytes.CutPrefix(content, []byte(ContentPrefix))
	if !ok {
		return nil, nil, fmt.Errorf("a schema change begins with %q", ContentPrefix)
	}
	if len(rest) <= macSize || rest[macSize] != ':' {
		return nil, nil, errors.New("schema change without authentication")
	}
	return rest[:macSize], rest[macSize+1:], nil
}

// Verifier checks a message's content while it comes in.
type Verifier struct {
	head []byte // what stands before the JSON
	macs []mac
}

// NewVerifier returns a verifier that knows these keys.
func NewVerifier(keys [][]byte) *Verifier {
	v := &Verifier{}
	for _, k := range keys {
		v.macs = append(v.macs, newMAC(k))
	}
	return v
}

// Write takes the next bytes of the content. It never fails.
func (v *Verifier) Write(b []byte) (int, error) {
	n := len(b)
	cut := min(len(ContentPrefix)+macSize+1-len(v.head), n)
	v.head, b = append(v.head, b[:cut]...), b[cut:]
	for _, m := range v.macs {
		m.Write(b)
	}
	return n, nil
}

// Genuine reports whether the content that came in was made with one of the keys.
func (v *Verifier) Genuine() bool {
	sealed, _, err := unseal(v.head)
	return err == nil && slices.ContainsFunc(v.macs, func(m mac) bool { return subtle.ConstantTimeCompare(m.hex(), sealed) == 1 })
}

// TransactionOf returns the id of its own transaction that a message's content gives; 0 if it gives none.
func TransactionOf(content []byte) uint32 {
	var m struct {
		XID uint32 `json:"xid"`
	}
	_, body, err := unseal(content)
	if err != nil || json.Unmarshal(body, &m) != nil {
		return 0
	}
	return m.XID
}

// KeyID names a key without telling it; "" for none.
func KeyID(key []byte) string {
	if len(key) == 0 {
		return ""
	}
	sum := sha256.Sum256(append([]byte("tidemark key id"), key...))
	return hex.EncodeToString(sum[:16])
}

// noKey are the codes of errors that say that there is no key, or none for this role: undefined_table,
// invalid_schema_name, insufficient_privilege, undefined_column, object_not_in_prerequisite_state (not populated).
var noKey = []string{"42P01", "3F000", "42501", "42703", "55000"}

// ReadKey reads the key; nil where there is none that this role may read.
func ReadKey(ctx context.Context, conn *pgx.Conn) ([]byte, error) {
	var key []byte
	err := conn.QueryRow(ctx, "SELECT key FROM "+keyView).Scan(&key)
	var pgErr *pgconn.PgError
	if errors.Is(err, pgx.ErrNoRows) || asPgError(err, &pgErr) && slices.Contains(noKey, pgErr.Code) {
		return nil, nil
	}
	return key, fault.Wrap(err, fault.CodeOf(err), "", "reading the key that schema changes are verified with")
}
