package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/cli"
	"tidemark/internal/fault"
	"tidemark/objectstore"
)

type inspectCmd struct {
	Key  string `arg:"" help:"Object of the archive, such as segments/1/00000000018A6F28-00000001.0000."`
	Rows bool   `help:"Also print the rows of a segment or snapshot chunk."`
}

// Help is shown by inspect --help.
func (*inspectCmd) Help() string {
	return `Prints what an object holds, for people. docs/format describes every kind of object byte by byte.

    archive.json                   the archive's identity
    catalog/log/…/<seq>            an entry
    catalog/book/…, catalog/root/… many entries
    segments/…                     relations and transactions; --rows prints every operation
    snapshots/…/manifest           schema, tables, sequences of a base snapshot
    snapshots/…/<table>/<chunk>    rows of a base snapshot, with --rows

Examples:

    restorer inspect archive.json
    restorer inspect --rows segments/1/00000000018A6F28-00000001.0000 | less`
}

// Run prints the object.
func (c *inspectCmd) Run(ctx context.Context, env *cli.Env) error {
	store, err := env.OpenStore(ctx, patience, nil)
	if err != nil {
		return err
	}
	if err := objectstore.CheckKey(c.Key); err != nil {
		return fault.Wrap(err, fault.Usage, "keys are relative to the archive, such as archive.json", "%q is no key of an archive", c.Key)
	}
	err = c.inspect(ctx, store, env.Stdout)
	if errors.Is(err, objectstore.ErrNotFound) {
		return fault.Wrap(err, fault.Usage, "restorer verify -o json and the store's own tools list keys", "no object %s", c.Key)
	}
	return err
}

func (c *inspectCmd) inspect(ctx context.Context, store objectstore.Store, w io.Writer) error {
	switch kind, rest, _ := strings.Cut(c.Key, "/"); {
	case kind == "segments":
		return c.segment(ctx, store, w)
	case kind == "snapshots" && path.Base(rest) == "manifest":
		m, err := c.manifest(ctx, store, c.Key)
		if err != nil {
			return err
		}
		return cli.WriteJSON(w, m)
	case kind == "snapshots":
		return c.chunk(ctx, store, w)
	}
	data, err := objectstore.GetAll(ctx, store, c.Key)
	if err != nil {
		return err
	}
	return printLines(w, c.Key, data)
}

// printLines prints archive.json and the objects of the catalog: lines of JSON, some of them packed.
func printLines(w io.Writer, key string, data []byte) error {
	text, err := catalogText(key, data)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		var out bytes.Buffer
		if err := json.Indent(&out, bytes.TrimSpace(line), "", "  "); err != nil {
			return fault.New(fault.Damage, "restorer verify says what else is damaged", "%s does not hold lines of JSON", key)
		}
		if _, err := fmt.Fprintf(w, "%s\n", out.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (c *inspectCmd) manifest(ctx context.Context, store objectstore.Store, key string) (*basesnapshot.Manifest, error) {
	data, err := objectstore.GetAll(ctx, store, key)
	if err != nil {
		return nil, err
	}
	return basesnapshot.DecodeManifest(key, data)
}

// chunk prints which chunk of which table an object belongs to and, if asked, that chunk's rows.
func (c *inspectCmd) chunk(ctx context.Context, store objectstore.Store, w io.Writer) error {
	parts := strings.SplitN(c.Key, "/", 3)
	if len(parts) < 3 {
		return fault.New(fault.Usage, "a chunk's key is snapshots/<snapshot>/<table>/<chunk>.<part>", "%q is no key of a snapshot's object", c.Key)
	}
	m, err := c.manifest(ctx, store, path.Join(parts[0], parts[1], "manifest"))
	if err != nil {
		return err
	}
	for _, t := range m.Tables {
		for _, chunk := range t.Chunks {
			for i, o := range chunk.Objects {
				if o.Key != c.Key {
					continue
				}
				fmt.Fprintf(w, "# table %s, part %d of %d of a chunk of %s rows; columns %s\n", &t, i+1, len(chunk.Objects),
					cli.Count(chunk.Rows), strings.Join(t.CopyColumns(), ", "))
				return c.chunkRows(ctx, store, chunk, w)
			}
		}
	}
	return fault.New(fault.Usage, "restorer verify notes objects that nothing names", "the snapshot's manifest does not name %s", c.Key)
}

func (c *inspectCmd) chunkRows(ctx context.Context, store objectstore.Store, chunk basesnapshot.Chunk, w io.Writer) error {
	if !c.Rows {
		return nil
	}
	r, err := basesnapshot.OpenChunk(ctx, store, chunk)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}
