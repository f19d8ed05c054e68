package catalog

import (
	"bytes"
)

// encodeLogObject makes the object of an entry: its line, and the lines before it that fit.
// carried ascends to the line just before.
func encodeLogObject(line []byte, carried [][]byte) []byte {
	size := 0
	first := len(carried)
	for first > 0 && size+len(carried[first-1])+1 <= maxCarry {
		first--
		size += len(carried[first]) + 1
	}
	data := append(bytes.Clone(line), '\n')
	if first < len(carried) {
		data, _ = deflate(data, joinLines(carried[first:])) // without the frame a reader has to get more objects, no more
	}
	return appendSum(append(data, magicOf(magicLog)...))
}

// decodeLogObject returns the object's own line and those it carries, ascending. Only the object's
// own form is checked; whether the lines are in the chain is the caller's to check.
func decodeLogObject(key string, data []byte) (line []byte, carried [][]byte, err error) {
	if data, err = cutSum(key, data); err != nil {
		return nil, nil, err
	}
	cut := len(data) - magicSize
	if err := checkMagic(key, data[cut:], magicLog); err != nil {
		return nil, nil, err
	}
	line, frame, ok := bytes.Cut(data[:cut], []byte("\n"))
	if !ok || len(line) > maxLine {
		return nil, nil, damaged(key, "it does not begin with a line")
	}
	if len(frame) == 0 {
		return line, nil, nil
	}
	text, err := inflate(frame, maxCarry)
	if err == nil {
		carried, err = splitLines(text)
	}
	if err != nil {
		return nil, nil, damaged(key, "%v", err)
	}
	return line, carried, nil
}
