// SPDX-License-Identifier: Apache-2.0

// Command protogen compiles .proto files and runs the Go plugins over them, so
// that `make generate` needs Go alone and writes the same bytes everywhere: the
// compiler is a Go module with a pinned version, and no compiler version is
// told to the plugins (it would land in the headers of what they write).
//
//	protogen [-I root] file.proto...
//
// Names are relative to the root, which is also where the output goes
// (paths=source_relative). The plugins are the tools of the module in the
// working directory.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	root := flag.String("I", ".", "folder that imports and output are relative to")
	flag.Parse()
	if err := run(context.Background(), *root, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

// run generates Go for the named files under root.
func run(ctx context.Context, root string, names []string) error {
	if len(names) == 0 {
		return errors.New("no .proto file named; give at least one, relative to -I")
	}
	files, err := compile(ctx, root, names)
	if err != nil {
		return fmt.Errorf("compiling: %w", err)
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		Parameter:      proto.String("paths=source_relative"),
		ProtoFile:      files,
	}
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		if err := generate(ctx, plugin, request, root); err != nil {
			return fmt.Errorf("running %s: %w", plugin, err)
		}
	}
	return nil
}

// compile returns the named files and everything they import, imports first,
// as the plugin protocol wants them.
func compile(ctx context.Context, root string, names []string) ([]*descriptorpb.FileDescriptorProto, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	var out []*descriptorpb.FileDescriptorProto
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		out = append(out, protoutil.ProtoFromFileDescriptor(f))
	}
	for _, f := range compiled {
		add(f)
	}
	return out, nil
}

// generate feeds the request to one plugin and writes the files it answers.
func generate(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest, root string) error {
	input, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	if response.Error != nil {
		return errors.New(*response.Error)
	}
	for _, f := range response.File {
		name := filepath.Clean(f.GetName())
		if !filepath.IsLocal(name) || !strings.HasSuffix(name, ".pb.go") {
			return fmt.Errorf("writing %q: not a .pb.go file below the root", name)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
