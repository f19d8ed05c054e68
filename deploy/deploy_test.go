// Package deploy_test holds the deployment files to what the programs know.
package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"tidemark/internal/config"
)

type compose struct {
	Services map[string]struct {
		Image       string
		Build       struct{ Context, Dockerfile string }
		Command     []string
		Entrypoint  []string
		Environment map[string]string
		Volumes     []string
		DependsOn   any `yaml:"depends_on"`
	}
	Volumes map[string]any
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into), path)
}

func readCompose(t *testing.T) (c compose) {
	read(t, "../docker-compose.yml", &c)
	return c
}

var pinned = regexp.MustCompile(`^[a-z0-9./-]+:[A-Za-z0-9._-]*[0-9][A-Za-z0-9._-]*$`)

func TestImagesArePinned(t *testing.T) {
	for name, s := range readCompose(t).Services {
		if s.Build.Context == "" {
			require.Regexp(t, pinned, s.Image, name)
		}
	}
}

func TestNamedFilesExist(t *testing.T) {
	c := readCompose(t)
	for name, s := range c.Services {
		if s.Build.Context != "" {
			require.FileExists(t, filepath.Join("..", s.Build.Context, s.Build.Dockerfile), name)
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, ".") {
				require.FileExists(t, filepath.Join("..", from), name)
			} else {
				require.Contains(t, c.Volumes, from, name)
			}
		}
	}
}

func TestServicesDependOnServices(t *testing.T) {
	c := readCompose(t)
	for name, s := range c.Services {
		switch on := s.DependsOn.(type) {
		case map[string]any:
			for other := range on {
				require.Contains(t, c.Services, other, name)
			}
		case []any:
			for _, other := range on {
				require.Contains(t, c.Services, other, name)
			}
		}
	}
}

// TestArchiverKnowsItsFlags: the command's flags are in the archiver's help, and its file's keys are settings.
func TestArchiverKnowsItsFlags(t *testing.T) {
	s := readCompose(t).Services["archiver"]
	require.NotEmpty(t, s.Command)
	cmd := exec.Command("go", "run", "tidemark/cmd/archiver", s.Command[0], "--help")
	help, err := cmd.Output()
	require.NoError(t, err)
	for _, word := range s.Command[1:] {
		if strings.HasPrefix(word, "--") {
			flag, _, _ := strings.Cut(word, "=")
			require.Contains(t, string(help), flag+"=", "archiver %s", s.Command[0])
		}
	}
	for name := range s.Environment {
		if setting, ok := strings.CutPrefix(name, "TIDEMARK_"); ok {
			flag := strings.ToLower(strings.ReplaceAll(setting, "_", "-"))
			require.True(t, flag == "config" || slices.Contains(config.Keys(), flag), name)
		}
	}
	_, err = config.Load("tidemark.yaml", nil)
	require.NoError(t, err)
}

var metric = regexp.MustCompile(`\btidemark_[a-z_]+\b`)

// TestAlertsUseMetricsThatExist, and the manual describes each metric that there is.
func TestAlertsUseMetricsThatExist(t *testing.T) {
	var exported []string
	for _, pattern := range []string{"../internal/pipeline/*.go", "../objectstore/metrics.go", "../pitr/follow/metrics.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, m := range regexp.MustCompile(`"(tidemark_[a-z_]*[a-z])", *"`).FindAllStringSubmatch(string(text), -1) {
				exported = append(exported, m[1])
			}
			for _, m := range regexp.MustCompile(`Name: +"(tidemark_[a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
				exported = append(exported, m[1])
			}
		}
	}
	require.Greater(t, len(exported), 15)

	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	read(t, "alerts.yml", &rules)
	for _, r := range rules.Groups[0].Rules {
		for _, m := range metric.FindAllString(r.Expr, -1) {
			require.Contains(t, exported, m, r.Alert)
		}
	}
	manual, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	for _, m := range metric.FindAllString(string(manual), -1) {
		require.Contains(t, exported, m, "docs/operations.md")
	}
	for _, m := range exported {
		require.Contains(t, string(manual), m)
	}
}

func TestPrometheusScrapesTheArchiver(t *testing.T) {
	var p struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string                       `yaml:"job_name"`
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	read(t, "prometheus.yml", &p)
	require.Equal(t, []string{"alerts.yml"}, p.RuleFiles)
	target := p.ScrapeConfigs[0].StaticConfigs[0].Targets[0]
	service, port, _ := strings.Cut(target, ":")
	archiver := readCompose(t).Services[service]
	require.Contains(t, archiver.Command, "0.0.0.0:"+port)
}

var link = regexp.MustCompile(`\]\(([^)#]+)\)`)

// TestLinksInTheManualLeadSomewhere checks the pages' links to files.
func TestLinksInTheManualLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	formats, err := filepath.Glob("../docs/format/*.md")
	require.NoError(t, err)
	for _, page := range append(append(pages, formats...), "../README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(page), m[1]))
			require.NoError(t, err, page)
		}
	}
}
