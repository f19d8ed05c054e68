package ddl

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFingerprintVersion: a replay stops where fingerprints of one version differ. What they are made of must not change
// without the version: FingerprintVersion goes up, and its sum goes here.
func TestFingerprintVersion(t *testing.T) {
	sum := sha256.Sum256([]byte(readSQL("fingerprint.sql") + FingerprintSettings))
	require.Equal(t, map[string]string{"2": "803b50af6279ba5d"}[FingerprintVersion], hex.EncodeToString(sum[:8]))
	require.True(t, RelationState{Fingerprint: FingerprintVersion + ":0123"}.Comparable())
	require.False(t, RelationState{Fingerprint: "9:0123"}.Comparable())
	require.False(t, RelationState{Fingerprint: "0123"}.Comparable())
}
