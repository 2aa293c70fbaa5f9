// Find defects with an exported detector in C#. Not compiled here: nothing in this project's checks builds this file.
//
//   dotnet add package Microsoft.ML.OnnxRuntime
//   dotnet run part.onnx rgb.raw 400 400 depth_view.raw 256
//
// rgb.raw: height x width x 3 bytes, as the camera delivered them. depth_view.raw: 1 x S x S little-endian float32, the
// view that prepare_views.py made of the scan, without the header of its .npy file. part.json says what a model reads.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

using var session = new InferenceSession(args[0]);
int height = int.Parse(args[2]), width = int.Parse(args[3]), size = int.Parse(args[5]);
var rgb = new DenseTensor<byte>(File.ReadAllBytes(args[1]), new[] { 1, height, width, 3 });
var view = MemoryMarshal.Cast<byte, float>(File.ReadAllBytes(args[4])).ToArray();
var inputs = new List<NamedOnnxValue>
{
    NamedOnnxValue.CreateFromTensor("rgb", rgb),
    NamedOnnxValue.CreateFromTensor("depth_view", new DenseTensor<float>(view, new[] { 1, 1, size, size })),
    // thresholds have defaults; to use another:
    // NamedOnnxValue.CreateFromTensor("threshold", new DenseTensor<float>(new[] { 4.2f }, ReadOnlySpan<int>.Empty)),
};
using var results = session.Run(inputs, new[] { "score", "label", "mask" });
float score = results.First(result => result.Name == "score").AsTensor<float>().First();
bool label = results.First(result => result.Name == "label").AsTensor<bool>().First();
int marked = results.First(result => result.Name == "mask").AsTensor<bool>().Count(pixel => pixel);
Console.WriteLine($"score {score}: {(label ? "anomalous" : "normal")}, {marked} pixels anomalous");
