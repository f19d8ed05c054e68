package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/klauspost/compress/zstd"

	"tidemark/internal/fault"
)

// unpackLimit bounds what a book or root may unpack to, in bytes.
const unpackLimit = 1 << 30

// catalogText returns the lines of an object of the catalog: those of a book or root, the own line of a
// log object, or the text as it is.
func catalogText(key string, data []byte) ([]byte, error) {
	switch {
	case strings.HasPrefix(key, "catalog/log/"):
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return line, nil
	case strings.HasPrefix(key, "catalog/book/"), strings.HasPrefix(key, "catalog/root/"):
		return unpack(key, data)
	}
	return data, nil
}

// unpack opens the frame that books and roots share: a magic and version of 8 bytes, zstd, SHA-256.
func unpack(key string, data []byte) ([]byte, error) {
	if len(data) < 8+sha256.Size {
		return nil, catalogDamage(key, "it is too short")
	}
	body, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if have := sha256.Sum256(body); !bytes.Equal(have[:], sum) {
		return nil, catalogDamage(key, "its checksum does not match")
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(unpackLimit), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	defer decoder.Close()
	text, err := decoder.DecodeAll(body[8:], nil)
	if err != nil {
		return nil, catalogDamage(key, err.Error())
	}
	return text, nil
}

func catalogDamage(key, problem string) error {
	return fault.New(fault.Damage, "restorer verify says what else is damaged and which windows are still good", "%s is damaged: %s", key, problem)
}
