package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// layers says which of our packages each of our packages may import, by prefix. Imports run one way:
// commands, then pipeline and pitr, then catalog and walstream, then segment; objectstore and segment
// import nothing of ours.
var layers = []struct {
	pkg string
	may []string
}{
	{"objectstore/", []string{"objectstore"}},
	{"objectstore", nil},
	{"segment", nil},
	{"internal/resident", nil},
	{"internal/fault", []string{"objectstore", "segment"}},
	{"walstream/pgoutput", []string{"segment"}},
	{"walstream", []string{"walstream/pgoutput", "segment", "internal/sqltext", "internal/fault"}},
	{"catalog", []string{"segment", "objectstore", "internal/fault"}},
	{"internal/ddl", []string{"segment", "internal/sqltext", "internal/fault"}},
	{"internal/basesnapshot", []string{"catalog", "segment", "objectstore", "walstream", "internal/ddl", "internal/sqltext", "internal/fault", "internal/basesnapshot/"}},
	{"internal/sqltext", []string{"internal/fault"}},
	{"pitr/pgbinary", nil},
	{"pitr/session", []string{"internal/fault"}},
	{"pitr/apply", []string{"pitr/pgbinary", "pitr/session", "internal/sqltext", "segment", "internal/ddl", "internal/fault"}},
	{"pitr/follow", []string{"pitr", "pitr/apply", "pitr/session", "catalog", "segment", "objectstore", "internal/basesnapshot", "internal/ddl", "internal/sqltext", "internal/fault"}},
	{"pitr", []string{"pitr/", "catalog", "segment", "objectstore", "internal/basesnapshot", "internal/ddl", "internal/sqltext", "internal/fault"}},
	{"internal/verify", []string{"catalog", "segment", "objectstore", "internal/basesnapshot", "internal/fault"}},
	{"internal/config", []string{"internal/fault"}},
	{"internal/cli", []string{"internal/config", "objectstore", "segment", "internal/fault"}},
	{"internal/pipeline", []string{"catalog", "walstream", "segment", "objectstore", "internal/basesnapshot", "internal/ddl", "internal/resident", "internal/fault"}},
}

// testOnly matches the packages that only tests import.
var testOnly = regexp.MustCompile(`^(integration|internal/testserver)(/|$)|/(storetest|testarchive|clitest)$`)

// TestImportsRunOneWay reads what each package imports (tests apart) and compares it with the layers.
func TestImportsRunOneWay(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	seen := 0
	for dec := json.NewDecoder(out); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		checkImports(t, strings.TrimPrefix(p.ImportPath, "tidemark/"), p.Imports)
	}
	require.NoError(t, cmd.Wait())
	require.Greater(t, seen, 12, "go list found too few packages")
}

func checkImports(t *testing.T, pkg string, imports []string) {
	var may []string
	governed := false
	for _, l := range layers {
		if pkg == l.pkg || strings.HasPrefix(pkg, l.pkg+"/") || strings.HasSuffix(l.pkg, "/") && strings.HasPrefix(pkg, l.pkg) {
			may, governed = append(slices.Clone(l.may), l.pkg), true
			break
		}
	}
	for _, imported := range imports {
		if !testOnly.MatchString(pkg) {
			require.NotEqual(t, "testing", imported, "%s is no test and imports testing", pkg)
		}
		name, ours := strings.CutPrefix(imported, "tidemark/")
		if !ours || !governed {
			continue
		}
		allowed := slices.ContainsFunc(may, func(m string) bool {
			return name == m || strings.HasSuffix(m, "/") && strings.HasPrefix(name, m) || strings.HasPrefix(name, pkg+"/")
		})
		require.True(t, allowed, "%s must not import %s", pkg, name)
	}
}
