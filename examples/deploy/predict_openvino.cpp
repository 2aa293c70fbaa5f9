// Find defects with an exported detector in OpenVINO: no Python, no crdkit.
//
//   predict_openvino part.onnx rgb=rgb.npy depth_view=depth_view.npy
//   predict_openvino part.onnx --selftest      exit code 1 where outputs differ from PyTorch's
//
// An input is a .npy file without the batch: a sensor as it was delivered (rgb: uint8, height x width x 3), or a view
// that prepare_views.py made of a scan (depth_view: float32, 1 x S x S). In a program of yours a camera's buffer takes
// the place of the file. OpenVINO takes the thresholds for constants: for others compare score and anomaly_map.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <openvino/openvino.hpp>
#include <stdexcept>

namespace fs = std::filesystem;

const std::map<std::string, ov::element::Type> DTYPES = {
    {"|u1", ov::element::u8}, {"<u2", ov::element::u16}, {"<f4", ov::element::f32}, {"|b1", ov::element::boolean}};
const double TOLERANCE = 1e-4;  // of the largest value, as in part.json

// Reads an array in C order, as NumPy writes it; with `batch`, as a batch of one.
ov::Tensor read_npy(const fs::path& file, bool batch) {
    std::ifstream in(file, std::ios::binary);
    char start[10];
    if (!in.read(start, sizeof start) || std::memcmp(start, "\x93NUMPY\x01", 7))
        throw std::runtime_error(file.string() + ": cannot be read as a .npy file of format 1.0");
    std::string header(static_cast<unsigned char>(start[8]) + 256 * static_cast<unsigned char>(start[9]), ' ');
    in.read(header.data(), header.size());
    const auto quote = header.find("'descr': '") + 10;
    const auto dtype = DTYPES.find(header.substr(quote, 3));
    if (dtype == DTYPES.end() || header.find("'fortran_order': False") == std::string::npos)
        throw std::runtime_error(file.string() + ": expected uint8, uint16, float32 or bool in C order");
    ov::Shape shape;
    if (batch) shape.push_back(1);
    const auto open = header.find('(') + 1;
    std::string sides = header.substr(open, header.find(')') - open);
    std::replace(sides.begin(), sides.end(), ',', ' ');
    std::istringstream numbers(sides);
    for (size_t side; numbers >> side;) shape.push_back(side);
    ov::Tensor tensor(dtype->second, shape);
    if (!in.read(static_cast<char*>(tensor.data()), tensor.get_byte_size()))
        throw std::runtime_error(file.string() + ": ends early");
    return tensor;
}

double value(const ov::Tensor& tensor, size_t place) {
    return tensor.get_element_type() == ov::element::f32 ? static_cast<const float*>(tensor.data())[place]
                                                         : static_cast<const uint8_t*>(tensor.data())[place];
}

// Returns the largest difference over the largest expected value.
double difference(const ov::Tensor& found, const ov::Tensor& expected) {
    if (found.get_shape() != expected.get_shape()) return INFINITY;
    double most = 0, largest = 1e-12;
    for (size_t place = 0; place < expected.get_size(); ++place) {
        const double gap = std::abs(value(found, place) - value(expected, place));
        most = gap <= most ? most : gap;  // NaN counts
        largest = std::max(largest, std::abs(value(expected, place)));
    }
    return most / largest;
}

int run(const std::vector<std::string>& arguments) {
    const fs::path model = arguments.at(0);
    const bool selftest = arguments.at(1) == "--selftest";
    ov::Core core;
    auto compiled = core.compile_model(model.string(), "CPU", ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                                       ov::hint::inference_precision(ov::element::f32));
    auto request = compiled.create_infer_request();
    const fs::path folder = fs::path(model).replace_extension(".selftest");
    for (const auto& input : compiled.inputs()) {
        const std::string name = input.get_any_name();
        fs::path file = selftest ? folder / (name + ".npy") : fs::path();
        for (const auto& argument : arguments)
            if (argument.rfind(name + "=", 0) == 0) file = argument.substr(name.size() + 1);
        if (file.empty()) throw std::runtime_error("expected " + name + "=FILE.npy");
        request.set_tensor(name, read_npy(file, !selftest));
    }
    request.infer();
    std::cout << "score " << value(request.get_tensor("score"), 0) << ": "
              << (value(request.get_tensor("label"), 0) ? "anomalous" : "normal") << std::endl;
    int code = 0;
    for (const auto& output : compiled.outputs()) {
        if (!selftest) break;
        const std::string name = output.get_any_name();
        const double gap = difference(request.get_tensor(name), read_npy(folder / (name + ".npy"), false));
        std::cout << name << ": differs by " << gap << std::endl;
        if (!(gap <= TOLERANCE)) code = 1;
    }
    return code;
}

int main(int count, char** arguments) {
    if (count < 3) {
        std::cerr << "usage: predict_openvino MODEL.onnx (--selftest | NAME=FILE.npy ...)" << std::endl;
        return 2;
    }
    try {
        return run({arguments + 1, arguments + count});
    } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        return 2;
    }
}
